"""What vLLM says where the model, the arguments or its own environment are not right (a table).

The lines are those of vLLM 0.11 to 0.33 and of the libraries below it. Of two that fit, the first holds.
A line may hold what a model says: every gap has an end, so that none takes long to compare, and so has
every number with which something is computed.
"""

from modelctl.engine import remedies
from modelctl.engine.symptom import row

_MEND = "`modelctl verify --repair {model}`"
_COMPARE = "`modelctl verify {model}` tells whether they are as they were published"
_NEWER = "a newer vLLM may know it: `modelctl engine install`, or `--python` names another"

TABLE = (
    # Ports and arguments.
    row(
        "port",
        r"listen on any local network address\. port: (?P<port>\d+)",
        "port {port}, by which its processes speak to each other, is taken",
        "`-- --master-port` with a free one",
    ),
    row(
        "port",
        r"Address already in use",
        "its port was taken while it loaded",
        "another `--port`, or `--port 0` for a free one",
    ),
    row(
        "arguments",
        r"unrecognized arguments: (?P<words>.+)$",
        "it knows no argument `{words}`",
        "see `modelctl serve --help` for what stands before `--`; after it stand vLLM's own",
    ),
    row(
        "arguments",
        r"^argument (?P<flag>\S+): invalid choice: (?P<value>'[^']*'|\S+) \(choose from (?P<choices>.+)\)",
        "`{flag}` cannot be {value}",
        "one of {choices}",
    ),
    row(
        "arguments",
        r"^argument (?P<flag>[^:]+): (?P<why>.+)",
        "`{flag}` is not right: {why}",
        "`{flag}` with another value, or without it vLLM's own",
    ),
    row(
        "arguments",
        r"max_model_len \((?P<wanted>\d+)\) is greater than the derived max_model_len \(\w+=(?P<most>\d+)",
        "a context of {wanted} tokens is more than the model's own {most}",
        "`--max-model-len {most}`",
    ),
    row(
        "arguments",
        r"LoRA rank (?P<rank>\d{1,9}) is greater than max_lora_rank (?P<most>\d+)",
        "an adapter has rank {rank}, and vLLM is told to take at most {most}",
        "`-- --max-lora-rank {fits}`",
        more=remedies.rank,
    ),
    row(
        "arguments",
        r"torch\.(?P<dtype>\w+) is not supported for quantization method (?P<name>[\w-]+)\. Supported dtypes: "
        r"\[(?P<dtypes>[^\]]*)",
        "its quantisation `{name}` does not compute in {dtype}",
        "`-- --dtype {fits}`",
        more=remedies.first_dtype,
    ),
    # The model's files.
    row(
        "model",
        r"model type `(?P<type>[^`]+)` but Transformers does not recognize",
        "this vLLM does not know models of type `{type}`",
        _NEWER,
    ),
    row(
        "model",
        r"Model architectures \[?'?(?P<type>[\w, ']{1,200}?)'?\]? (?:are not supported|failed to be inspected)",
        "this vLLM does not know the architecture `{type}`",
        _NEWER,
    ),
    row(
        "model",
        r"contains custom code which must be executed|trust_remote_code=True|--trust-remote-code",
        "the model brings Python code of its own, which vLLM runs only when told",
        "read that code, then add `-- --trust-remote-code`",
    ),
    row(
        "model",
        r"Couldn't instantiate the backend tokenizer|Can't load tokenizer for|Tokenizer class \w+ does not exist",
        "the model has no tokenizer that can be loaded",
        "`modelctl pull {model} --all-files`, or `-- --tokenizer` with the folder of one",
    ),
    row(
        "model",
        r"Cannot find any model weights with `(?P<path>[^`]+)`",
        "there are no weights in `{path}`",
        _MEND,
    ),
    row(
        "model",
        r"SafetensorError: (?:Error while deserializing(?: header)?: )?(?P<why>.+)$",
        "a file of its weights is damaged: {why}",
        _MEND,
    ),
    row(
        "model",
        r"Weight files referenced in index but missing(?: from disk)?:? *(?P<modules>.*)",
        "files of its weights are missing: {modules}",
        _MEND,
        more=remedies.first_module,
    ),
    row(
        "model",
        r"No such file or directory: '(?P<path>[^']+\.(?:safetensors|bin|pt|json|model|jinja|txt))'",
        "there is no file `{path}`",
        _MEND,
    ),
    row(
        "model",
        r"no module or parameter named '(?P<name>[^']+)' in (?P<type>\w+)",
        "its weights hold `{name}`, for which {type} has no place",
        _COMPARE,
    ),
    row(
        "model",
        r"(?P<why>start \(\d+\) \+ length .{1,100} exceeds dimension .+?|"
        r"size mismatch for .+?|Attempted to load weight .+?)\.?$",
        "its weights have other shapes than its configuration says: {why}",
        _COMPARE,
    ),
    row(
        "model",
        r"weights were not initialized from checkpoint: \{(?P<modules>[^}]*)",
        "its weights lack {modules}",
        _COMPARE,
        more=remedies.first_module,
    ),
    row(
        "model",
        r"config file at '(?P<path>[^']+)' is not a valid JSON file",
        "the model's configuration `{path}` is no JSON",
        _MEND,
    ),
    row(
        "model",
        r"Invalid repository ID or local directory specified: '(?P<path>/[^']+)'|"
        r"(?<!\S)(?P<other>/\S+) does not appear to have a file named config\.json",
        "there is no `config.json` in `{path}{other}`",
        _MEND,
    ),
    row(
        "model",
        r"Repo id must be in the form .{0,200}?: '(?P<path>[/.~][^']*)'",
        "there is no folder `{path}`",
        "`modelctl list` shows whether the model is still here",
    ),
    row(
        "model",
        r"Unknown quantization method: (?P<name>\S+)\. Must",
        "this vLLM does not know the quantisation `{name}`",
        "the same model in another quantisation",
    ),
    row(
        "model",
        r"While loading (?P<path>[^,]{1,400}), expected target modules in .{0,1000}? but received "
        r"\[(?P<modules>[^\]]*)",
        "the adapter in `{path}` does not fit the model, which has no {modules}",
        "an adapter made for this model; `modelctl show` names the model that one was made for",
        more=remedies.first_module,
    ),
    row(
        "model",
        r"Call to add_lora method failed: (?P<why>.+)$",
        "an adapter does not fit the model: {why}",
        "an adapter made for this model; `modelctl show` names the model that one was made for",
    ),
    # What is not here, and what belongs to the environment.
    row(
        "offline",
        r"Invalid repository ID or local directory specified: '(?P<name>[^/'][^']*)'",
        "it asks for `{name}`, which it does not find, and it runs without the network",
        "`modelctl pull {name}`, or give the folder that it is in",
    ),
    row(
        "access",
        r"gated repo|GatedRepoError|Access to model \S+ is restricted|40[13] Client Error",
        "it asks the Hub for something to which there is no access",
        "pull what it names with `modelctl pull`, which says how to get access",
    ),
    row(
        "offline",
        r"IncompleteSnapshotError",
        "it asks by its name for a model of which not every file was pulled",
        "give its folder instead of its name, or pull it with `--all-files`",
    ),
    row(
        "offline",
        r"OfflineModeIsEnabled|LocalEntryNotFoundError|"
        r"Cannot find an appropriate cached snapshot|outgoing traffic has been disabled",
        "it asks for a file that was not pulled, and it runs without the network",
        "pull what it names, or set `HF_HUB_OFFLINE=0`",
    ),
    row(
        "engine",
        r"No module named '(?P<name>[\w.]+)'",
        "its environment has no Python package `{name}`",
        "`modelctl engine status` names the environment, and `pip` of that environment installs it",
    ),
    row(
        "engine",
        r"\[Errno 24\] Too many open files",
        "it may not open as many files as it needs",
        "`ulimit -n 65536` in this shell, then the same again",
    ),
    # Often by the kernel for want of memory: its own count tells.
    row(
        "engine",
        r"Failed core proc\(s\): \{[^}]{0,500}'(?P<who>\w+)': -9\b",
        "its process `{who}` was killed",
        "`dmesg` may say by whom",
    ),
    row(
        "engine",
        r"Worker proc (?P<who>\S+) died unexpectedly \(exit code: -9\)",
        "its process `{who}` was killed",
        "`dmesg` may say by whom",
    ),
)
