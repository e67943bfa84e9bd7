"""Walk-jump sampling: by hand with `walk_jump`, in compiled chunks with `sample`."""

from neb_ppl.sampling.result import SampleResult, WalkState
from neb_ppl.sampling.sample import sample
from neb_ppl.sampling.walk_jump import WalkJumpInfo, matched_jump, walk_jump

__all__ = [
    "SampleResult",
    "WalkJumpInfo",
    "WalkState",
    "matched_jump",
    "sample",
    "walk_jump",
]
