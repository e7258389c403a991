"""The Train tab: from a person's pictures to a model of their own."""

from __future__ import annotations

import gradio as gr

from mmgen.ui.common.context import Context
from mmgen.ui.train.complete import Complete
from mmgen.ui.train.jobs import JobList
from mmgen.ui.train.pairs import Pairs
from mmgen.ui.train.rows import build_list
from mmgen.ui.train.start import Start
from mmgen.ui.train.watch import Watch


def build(context: Context) -> None:
    """Fill the tab."""
    pairs, start, watch, complete = Pairs(context), Start(context), Watch(context), Complete(context)
    watch.add_summary()
    with gr.Row(elem_id="bench"):
        with gr.Column(min_width=320, elem_id="material"):
            pairs.add()
        with gr.Column(min_width=320, elem_id="recipe"):
            pairs.add_check()
            start.add()
    watch.add()
    complete.add()
    with gr.Column(elem_id="jobs-section", elem_classes="section"):
        gr.HTML("<h2>Jobs</h2>", elem_classes="heading")
        said = gr.HTML(elem_id="jobs-said", elem_classes="told")
        jobs_list = build_list("jobs.js", "jobs")
    pairs.connect()
    watch.connect(jobs_list, [start.base, complete.model])
    complete.connect(pairs.list)
    start.connect(watch.summary, watch.look_after)
    JobList(context, jobs_list, said).connect(watch.look_after, watch.use)
