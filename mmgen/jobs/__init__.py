"""Fine-tuning jobs: kept in folders, trained one at a time in processes of their own, which outlive the studio."""

from mmgen.jobs.job import Job
from mmgen.jobs.scheduler import Scheduler
from mmgen.jobs.store import Jobs

__all__ = ["Job", "Jobs", "Scheduler"]
