"""What `nanochat explain CODE` says beyond the one line that `nanochat.errors.CODES` has."""

EXPLANATIONS: dict[str, str] = {
    "E101": "A recipe is a UTF-8 text file of at most 1 MiB. It is missing, a folder, unreadable, or no text.",
    "E102": (
        "No config class has a key of this name at this place. Keys are never ignored: a misspelt one would\n"
        "be a silent default.\n"
        "\n"
        "    [stages.base.model]\n"
        "    dept = 4            # did you mean `depth`?\n"
        "\n"
        "`nanochat explain gpt` lists the keys of a component, recipes/KEYS.md those of all."
    ),
    "E103": (
        'Nothing is coerced: "4" is no integer, nor is 4.0, nor true. An integer may stand where a number is\n'
        "wanted.\n"
        "\n"
        '    steps = "150"       # a string\n'
        "    steps = 150         # an integer\n"
        "    lr = 1              # fine: the number 1.0"
    ),
    "E104": "The value has the right type, but lies outside what its field allows, or is none of its choices.",
    "E105": (
        "A key without a default is not given, or a table that a stage needs is not there.\n"
        "\n"
        "    [stages.base.model]\n"
        '    use = "gpt"         # and `depth`, which has no default\n'
        "\n"
        "`nanochat explain gpt` says which keys are required."
    ),
    "E106": "The file does not follow TOML 1.0, holds an integer beyond 64 bits, or nests more than 32 levels.",
    "E107": (
        "`extends` names a file that cannot be read, or recipes extend each other in a circle. Paths are\n"
        "relative to the file that says them."
    ),
    "E108": (
        "`unset` takes away what a parent has; nothing that this recipe extends sets the key. Names are whole\n"
        "paths.\n"
        "\n"
        '    extends = "quickstart.toml"\n'
        '    unset = ["stages.sft.data.identity"]'
    ),
    "E109": (
        "`--set KEY=VALUE`: the key is a dotted TOML key, the value is TOML; a single bare word is a string.\n"
        'Quote it for the shell: --set \'stages.base.data.mine = {use = "files", path = "x"}\'.'
    ),
    "E110": (
        "A reference is `stage:NAME`, `path:FOLDER` or `store:KEY` where an artifact is wanted, and { from =\n"
        '"stages.a.b" } where a value or table is. This one leads nowhere, or in a circle.\n'
        "\n"
        '    tokenizer = "stage:tok"                              # what the stage `tok` makes\n'
        '    total_batch_size = { from = "stages.base.total_batch_size" }'
    ),
    "E111": (
        "Stages make a tokenizer, a checkpoint or figures. The reference leads to another kind than is\n"
        "wanted.\n"
        "\n"
        "    [stages.sft]\n"
        '    use = "finetune"\n'
        '    init = "stage:tok"  # a tokenizer, where a checkpoint is wanted'
    ),
    "E112": (
        "Each of these stages needs the result of the next, and the last that of the first. One of them has\n"
        "to start from something else."
    ),
    "E113": (
        'The value is "auto", or absent with "auto" as default, and its rule cannot be computed: an input is\n'
        "not there, or values need each other. Setting it in the recipe always helps. `nanochat show --origin\n"
        "RECIPE` says which rule gave each derived value, `nanochat explain KEY` what the rule is given."
    ),
    "E114": (
        "Each parameter of the model is updated by exactly one group of [stages.X.optim]; `match` holds glob\n"
        "patterns of parameter names, as `nanochat estimate RECIPE` lists them by group.\n"
        "\n"
        "    [stages.base.optim.matrices]\n"
        '    use = "muon"\n'
        '    match = "blocks.*"\n'
        "    [stages.base.optim.rest]\n"
        '    use = "adamw"\n'
        '    match = ["wte.*", "head.*", "value_embeds.*", "*_lambda*", "smear_gate.*"]'
    ),
    "E115": (
        "Each value alone is fine; together they are not: heads that do not fill the width, a batch that is no\n"
        "multiple of rows and processes, a mixture whose weights are all 0, a launcher that cannot start what the\n"
        "hardware table asks for. The message says which and how."
    ),
    "E201": (
        "No installed plugin offers a component of this kind and name, or the one that does is broken or\n"
        "blocked. `nanochat plugins` lists what there is, and says why a plugin is broken."
    ),
    "E202": (
        "A plugin raised an error when it was imported or asked. Its author can mend that; other plugins and\n"
        "recipes that do not use it are not affected."
    ),
    "E203": (
        "Two distributions register the same name for the same kind. Uninstall one, or block one: [plugins]\n"
        'block = ["distribution"].'
    ),
    "E204": (
        "[plugins] require, or a lock, names a distribution that is not installed, is broken, or has another\nversion."
    ),
    "E301": "A path or pattern matches no file that can be read as data.",
    "E302": "The source holds no text after empty and unreadable records are left out.",
    "E303": "The files lack the column or field that the recipe names; the message lists those that are there.",
    "E304": (
        "A data file, or one that was named to a command, is damaged or cannot be opened; or it is no longer what a\n"
        "lock was made with: then run the recipe itself, not its lock, to use the data as it is now."
    ),
    "E305": "A vocabulary has 256 bytes, at least no merges, and 9 specials: 265 ids or more.",
    "E306": ("A conversation breaks the rules: a list of messages with role and content, user and assistant in\nturn."),
    "E307": "The tokenizer's file is damaged or of another version. Train it again: --fresh STAGE.",
    "E308": (
        "The tokenizer encodes with tiktoken or with Hugging Face's tokenizers, as its recipe's `implementation`\n"
        "says, and that package is not installed: pip install 'nanochat-run[tokenizers]'."
    ),
    "E401": "NANOCHAT_HOME (default ~/.cache/nanochat) cannot be written, or its disk is full.",
    "E402": "Another process holds the stage's lease. Wait for it, or stop it; a crash frees the lease by itself.",
    "E403": "The stage's worker ended with an error; its log is named in the message.",
    "E404": (
        "The recipe asks for devices that this machine does not have (`nanochat plan` shows such stages as\n"
        "blocked), for a network interface of another name, or for a first node that did not come."
    ),
    "E405": (
        "No run, stage, tag or checkpoint has this name, or it may mean several. `nanochat runs` lists what there\n"
        "is, `nanochat runs show RUN` the keys and tags."
    ),
    "E406": "A checkpoint's files differ from its manifest: it was damaged after it was written.",
    "E407": "The command line asks for something that there is not, or for two things that exclude each other.",
    "E408": (
        "Hugging Face transformers has the first release's model (NanoChatForCausalLM). What it cannot compute, the\n"
        "message names: a factor on q and k, windows, value embeddings, residual lambdas, smear, backout. Export\n"
        "as `--format safetensors`, which holds every model, or train with these switches off."
    ),
    "E409": (
        "The folder holds no model that `nanochat import` knows, or its weights do not fit its own description.\n"
        "It reads folders of Hugging Face's NanoChatForCausalLM, model_NNNNNN.pt with meta_NNNNNN.json and\n"
        "tokenizer.pkl of the public nanochat (first release or current), and exports of ours."
    ),
    "E410": (
        "A process of the stage was killed, stood still, or lost its connection to the others. The stage is started\n"
        "again from its newest checkpoint, [hardware] restarts times at most without a newer one between."
    ),
    "E501": "The loss became nan or infinite: most often a learning rate that is too high.",
    "E502": (
        "The device's memory is full, or would be. In training a smaller device_batch_size computes the same with\n"
        "less; to answer, a model needs memory for its weights and for one conversation at least."
    ),
    "E601": "The prompt and what is to be generated need more positions than the model has.",
    "E602": "The request does not follow the API; the message names the field.",
    "E603": "The address or port is in use, or may not be bound.",
    "E604": "A layer that must hold what a model wrote is missing on this system, or no process could be started.",
}
