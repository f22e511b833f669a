"""What vLLM says where the machine is not what it would need (a table).

The lines are those of vLLM 0.11 to 0.33 and of the libraries below it. Of two that fit, the first holds.
A line may hold what a model says: every gap has an end, so that none takes long to compare, and so has
every number with which something is computed.
"""

from modelctl.engine import remedies
from modelctl.engine.symptom import NUMBER, row

LESS = "a smaller `--max-model-len`, a quantised model, or more GPUs with `--tensor-parallel-size`"
_ANOTHER_BUILD = "`--python` names a vLLM that is built for this machine; `modelctl engine status` shows this one"

TABLE = (
    # Memory: what is asked for, and what there is.
    row(
        "memory",
        rf"max seq len \((?P<wanted>\d+)\).{{0,20}}?\((?P<needed>{NUMBER}) GiB KV cache is needed.{{0,100}}?"
        r"available KV cache memory \((?P<given>[\d.]+) GiB\).{0,100}?estimated maximum model length is (?P<fits>\d+)",
        "a context of {wanted} tokens needs {needed} GiB of KV cache, and there are {given} GiB",
        "`--max-model-len {fits}` fits",
    ),
    row(
        "memory",
        rf"max seq len \((?P<wanted>\d+)\).{{0,20}}?\((?P<needed>{NUMBER}) GiB KV cache is needed.{{0,100}}?"
        r"available KV cache memory \((?P<given>[\d.]+) GiB\)",
        "a context of {wanted} tokens needs {needed} GiB of KV cache, and there are {given} GiB",
        "`-- --kv-cache-memory-bytes {bytes}` would hold it, or a smaller `--max-model-len`",
        more=remedies.cache_that_is_needed,
    ),
    row(
        "memory",
        rf"Free memory on device \S+ \((?P<free>{NUMBER})/(?P<total>{NUMBER}) GiB\) on startup is less than",
        "only {free} of {total} GiB of the GPU are free, less than vLLM was told to take",
        "`--gpu-memory-utilization {share}`, or end what else uses the GPU (`nvidia-smi` names it)",
        more=remedies.share_that_is_free,
    ),
    row(
        "memory",
        rf"Available memory on node \d+ \((?P<free>{NUMBER})/(?P<total>{NUMBER}) GiB\) on startup",
        "only {free} of {total} GiB of memory are free, less than vLLM was told to take",
        "`--gpu-memory-utilization {share}`, or `-- --kv-cache-memory-bytes {fits}`",
        more=remedies.cache_or_share_that_fits,
    ),
    row(
        "memory",
        rf"Available memory on node \d+ \((?P<free>{NUMBER})/[\d.]+ GiB\).{{0,200}}requested memory for kv "
        r"\((?P<left>-[\d.]+|0\.0)/(?P<share>[\d.]+) GiB\)",
        "its share of the memory, {share} GiB, is used up before the KV cache gets any",
        "a greater `--gpu-memory-utilization`, or `-- --kv-cache-memory-bytes {fits}` at most",
        more=remedies.cache_that_fits,
    ),
    row(
        "memory",
        rf"Available memory on node \d+ \((?P<free>{NUMBER})/[\d.]+ GiB\).{{0,200}}requested memory for kv "
        r"\((?P<wanted>[\d.]+)",
        "the KV cache would take {wanted} GiB, and {free} GiB of memory are free",
        "`-- --kv-cache-memory-bytes {fits}` at most, or a smaller `--max-model-len`",
        more=remedies.cache_that_fits,
    ),
    row(
        "memory",
        r"No available memory for the cache blocks",
        "nothing is left for the KV cache",
        "a greater `--gpu-memory-utilization` or `-- --kv-cache-memory-bytes`; `modelctl show {model} --memory` tells "
        "how much it needs",
    ),
    row(
        "memory",
        r"/dev/shm for shared-memory allocation: (?P<needed>\d{1,9}) MiB required, (?P<free>\d+) MiB free",  # noqa: S108
        "its processes need {needed} MiB of shared memory, and `/dev/shm` has {free} MiB free",
        "a container gets more by `--shm-size {size}` or `--ipc=host`, a machine by "
        "`mount -o remount,size={size} /dev/shm`",
        more=remedies.shared_memory,
    ),
    row(
        "memory",
        r"/dev/shm|shared memory segment|unable to (?:mmap|write to file|open shared memory)|"  # noqa: S108 - a text
        r"Bus error|exit code: -7\b|Failed core proc\(s\): \{[^}]{0,500}: -7\b",
        "the shared memory `/dev/shm` is too small for what its processes hand to each other",
        "`df -h /dev/shm` shows it; a container gets more by `--shm-size 8g` or `--ipc=host`",
    ),
    row(
        "memory",
        r"No space left on device",
        "a disk, or the shared memory `/dev/shm`, is full",
        "`df -h /dev/shm /tmp` shows which; a container needs `--shm-size 8g` or `--ipc=host`",
    ),
    row(
        "memory",
        r"OutOfMemoryError|CUDA out of memory|HIP out of memory|can't allocate memory|Cannot allocate memory|"
        r"\bMemoryError\b|std::bad_alloc",
        "it ran out of memory",
        LESS,
    ),
    # The device: what this build of vLLM can do with what this machine has.
    row(
        "device",
        r"Failed to infer device type|No CUDA GPUs are available|no CUDA-capable device|Found no NVIDIA driver",
        "this build of vLLM finds no device that it can use",
        "`modelctl engine install --cpu` puts the build for the CPU into an environment of its own",
    ),
    row(
        "device",
        r"driver on your system is too old|driver version is insufficient",
        "the NVIDIA driver is too old for this build of vLLM",
        "a newer driver, or `--python` names a vLLM built for an older CUDA",
    ),
    row(
        "device",
        r"no kernel image is available|has no attribute 'init_cpu_memory_env'|exit code: -4\b|"
        r"Failed core proc\(s\): \{[^}]{0,500}: -4\b|Illegal instruction",
        "this build of vLLM has no code for this machine's processor or GPU",
        _ANOTHER_BUILD,
    ),
    row(
        "device",
        r"(?P<library>lib(?:cuda|cudart|cublas\w{0,20}|cudnn|nccl|nvrtc|torch_cuda|amdhip64)\.so[\w.]{0,30}): "
        r"cannot open shared",
        "the library `{library}` of another device is not here, for which this build of vLLM was made",
        _ANOTHER_BUILD,
    ),
    row(
        "arguments",
        r"Bfloat16 is only supported on GPUs.{0,200}?Your (?P<gpu>.{1,100}?) GPU ",
        "the GPU, {gpu}, does not compute in bfloat16",
        "`-- --dtype half`",
    ),
    row(
        "device",
        r"quantization method (?P<name>\S+) is not supported for the current GPU\. Minimum capability: "
        r"(?P<needed>\d+)\. Current capability: (?P<there>\d+)",
        "its quantisation `{name}` needs a GPU of compute capability {needed}, and this one has {there}",
        "the same model in another quantisation",
        more=remedies.capability,
    ),
    row(
        "arguments",
        r"Sleep mode is not supported on current platform",
        "vLLM cannot put a model to sleep on this device",
        "the same without `--enable-sleep-mode`",
    ),
    # Several devices.
    row(
        "parallel",
        r"Total number of attention heads \((?P<heads>\d{1,5})\) must be divisible by tensor parallel size "
        r"\((?P<size>\d{1,9})\)",
        "{heads} attention heads cannot be divided among {size} devices",
        "`--tensor-parallel-size {fits}`: they can be divided among {sizes}",
        more=remedies.divisors,
    ),
    row(
        "parallel",
        r"World size \((?P<size>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d{1,9})\)",
        "{size} devices are asked for, and this machine has {gpus}",
        "`--tensor-parallel-size {fits}`, or more machines with `--nnodes` or `--ray`",
        more=remedies.power_of_two,
    ),
    row(
        "parallel",
        r"Not enough allowed NUMA nodes to bind threads of (?P<size>\d+)\D*?(?P<nodes>\[[\d, ]*\])",
        "the model is to be divided among {size} processors, and the NUMA nodes are {nodes}",
        "`--tensor-parallel-size {fits}`",
        more=remedies.nodes,
    ),
    row(
        "parallel",
        r"current platform \S{1,60} does not support ray",
        "vLLM cannot use Ray on this device",
        "the same without `--ray`",
    ),
    row(
        "parallel", r"NCCL error|ncclSystemError", "the GPUs cannot speak to each other", "`NCCL_DEBUG=WARN` tells why"
    ),
)
