"""Environment variables that a suite may set for its workers.

They only tune libraries. A variable that changes which code runs, where files are written or which
servers a library asks must be set in the shell, by the person who runs the suite. Workers inherit
it.
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


def _permitted(environment: dict[str, str]) -> dict[str, str]:
    for name in environment:
        if name not in PERMITTED:
            meant = near(name, PERMITTED)
            guess = f"; did you mean {meant}?" if meant and name not in _INSTEAD else ""
            instead = _INSTEAD.get(
                name, "only the person who runs the suite may set it: export it in the shell"
            )
            raise ValueError(f"a suite may not set {name[:100]}{guess} ({instead})")
    return environment


Environment = Annotated[dict[str, str], AfterValidator(_permitted)]
"""Variable -> value. Only variables that a suite may set are accepted."""
