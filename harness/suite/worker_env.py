"""Environment variables that a suite may set for its workers.

They tune libraries. One that changes which code runs, where files go or whom a library asks is for
whoever runs the suite to set, in the shell: workers inherit it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from harness.core.errors import near

_NAMES = """
    ACCELERATE_DISABLE_RICH ATEN_CPU_CAPABILITY BITSANDBYTES_NOWELCOME CUBLAS_WORKSPACE_CONFIG
    CUDA_DEVICE_MAX_CONNECTIONS CUDA_LAUNCH_BLOCKING DATASETS_VERBOSITY DNNL_DEFAULT_FPMATH_MODE
    HF_DATASETS_DISABLE_PROGRESS_BARS HF_HUB_DISABLE_PROGRESS_BARS HF_HUB_DISABLE_TELEMETRY
    HF_HUB_DOWNLOAD_TIMEOUT HF_HUB_ETAG_TIMEOUT HF_HUB_OFFLINE HF_HUB_VERBOSITY KMP_AFFINITY
    KMP_BLOCKTIME MALLOC_ARENA_MAX MLFLOW_EXPERIMENT_NAME NCCL_DEBUG NCCL_IB_DISABLE
    NCCL_P2P_DISABLE NVIDIA_TF32_OVERRIDE OMP_PROC_BIND ONEDNN_MAX_CPU_ISA
    ONEDNN_VERBOSE PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF PYTORCH_NO_CUDA_MEMORY_CACHING
    TOKENIZERS_PARALLELISM TORCHDYNAMO_DISABLE TORCH_ALLOW_TF32_CUBLAS_OVERRIDE
    TORCH_CPP_LOG_LEVEL TORCH_LOGS TRANSFORMERS_NO_ADVISORY_WARNINGS TRANSFORMERS_OFFLINE
    TRANSFORMERS_VERBOSITY WANDB_MODE WANDB_NAME WANDB_PROJECT WANDB_SILENT WANDB_TAGS
"""
PERMITTED = frozenset(_NAMES.split())
_INSTEAD = {
    "CUDA_VISIBLE_DEVICES": "each slot of the executor has a GPU of its own",
    "OMP_NUM_THREADS": "set `executor: {local: {threads: N}}`",
    "MKL_NUM_THREADS": "set `executor: {local: {threads: N}}`",
}


def _permitted(given: dict[str, str]) -> dict[str, str]:
    for name in given:
        if name not in PERMITTED:
            meant = near(name, PERMITTED)
            guess = f"; did you mean {meant}?" if meant and name not in _INSTEAD else ""
            instead = _INSTEAD.get(
                name, "what it changes is for whoever runs the suite: export it in the shell"
            )
            raise ValueError(f"a suite may not set {name[:100]}{guess} ({instead})")
    return given


Environment = Annotated[dict[str, str], AfterValidator(_permitted)]
"""Variable -> value, of those that a suite may set."""
