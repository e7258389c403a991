"""mmgen: a small, fast, steerable picture generator that reads words and reference pictures."""

__version__ = "0.1.0"


def __getattr__(name: str):
    # Loaded on first use: the command line's help and its data commands need no torch.
    if name == "MultimodalGANPipeline":
        from mmgen.pipeline import MultimodalGANPipeline

        return MultimodalGANPipeline
    raise AttributeError(f"module 'mmgen' has no attribute {name!r}")
