"""The engine of wakeword-tui: everything but the screens.

A file imports only files that stand earlier in this list (`tests/test_layers.py` holds it), so the
list is also the order to read them in.

plain (no torch)   errors section recipe_distill recipe recipe_file events files bus lock runs
                   prune jobs audio source laptop portaudio pipe sound microphone judge judge_body
                   manifest acoustics phonetics sentences espeak_helper espeak programs synth words
                   prompts take record sitting queue_file queue_store recent dataset mined health
                   detector metrics report flips cohorts outcomes compare export_folder trials
                   space study_file study
torch              device features rooms pitch augment spans batches ahead models quantize losses
                   optimiser checkpoint teachers distill lessons onnx_graph
verbs              scorer local_judge hard cost heard evaluate int8 trainer remaining pretrain train
                   agree round_off export_manifest export preview search finder forwarding
                   cascade verify mine mine_run listen judge_server
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__version__ = "0.1.0"


class _ForgivingLoader(importlib.abc.Loader):
    """Loads torchaudio's native extension, or marks it absent if it does not fit this torch."""

    def __init__(self, inner: importlib.abc.Loader) -> None:
        self.inner = inner

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.inner.exec_module(module)
        except (OSError, RuntimeError, ImportError) as error:
            absent: Any = module
            absent._IS_TORCHAUDIO_EXT_AVAILABLE = absent._IS_ALIGN_AVAILABLE = False
            absent.fail_if_no_align = lambda function: function
            absent._check_cuda_version = lambda: None
            absent.load_error = error


class TorchaudioGuard(importlib.abc.MetaPathFinder):
    """Lets torchaudio import beside a torch its native extension was not built for.

    torchaudio 2.11 refuses to import on a CPU torch, or on one of another CUDA version, though all
    that is used here is plain Python; transformers imports torchaudio wherever it is installed.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Wrap the loader of `torchaudio._extension`; leave every other module alone."""
        if name != "torchaudio._extension":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _ForgivingLoader(spec.loader)
        return spec


sys.meta_path.insert(0, TorchaudioGuard())
