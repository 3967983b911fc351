"""The first-party plugins: what this distribution registers, one hook for each kind of component.

Strings only: importing this module imports none of them. Keep each hook's list in alphabetical order.
"""

from nanochat.hooks import Registrar, hookimpl

TORCH_OPTIMIZERS = (
    "ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Muon", "NAdam", "RAdam", "RMSprop",
    "Rprop", "SGD", "SparseAdam",
)  # fmt: skip
"""Everything in torch.optim; what the loop cannot drive says why when it is asked for."""


@hookimpl
def register_launchers(registry: Registrar) -> None:
    """What starts a stage's worker processes."""
    package, config = "nanochat_plugins.launchers", "nanochat.hardware:Hardware"
    registry.add("local", build=f"{package}.local:build", config=config)
    registry.add("slurm", build=f"{package}.slurm:build", config=config)
    registry.add("torchrun", build=f"{package}.torchrun:build", config=config)


@hookimpl
def register_optimizers(registry: Registrar) -> None:
    """Optimizers, each for one group of parameters."""
    package = "nanochat_plugins.optimizers"
    registry.add("adamw", build=f"{package}.adamw:build", config=f"{package}.adamw_config:AdamWConfig")
    registry.add("galore", build=f"{package}.galore:build", config=f"{package}.galore_config:GaLoreConfig")
    registry.add("muon", build=f"{package}.muon:build", config=f"{package}.muon_config:MuonConfig")
    for name in TORCH_OPTIMIZERS:
        build, config = f"{package}.torch_optimizer:build", f"{package}.torch_config:{name}"
        registry.add(f"torch:{name}", build=build, config=config)


@hookimpl
def register_sources(registry: Registrar) -> None:
    """Documents to pretrain on."""
    package = "nanochat_plugins.sources"
    hub, shuffled = f"{package}.hub:HubSource", f"{package}.shuffled_config"
    registry.add("climbmix", build=hub, config=f"{shuffled}:ClimbMixConfig")
    registry.add("files", build=f"{package}.files:Files", config=f"{package}.files_config:FilesConfig", revision=3)
    registry.add("fineweb_edu", build=hub, config=f"{shuffled}:FineWebEduConfig")
    registry.add("hub", build=hub, config=f"{package}.hub_config:HubConfig", revision=2)
    registry.add("pydocs", build=f"{package}.pydocs:PyDocs", config=f"{package}.pydocs:PyDocsConfig")
    registry.add("stories", build=f"{package}.stories:Stories", config=f"{package}.stories:StoriesConfig")


@hookimpl
def register_tasks(registry: Registrar) -> None:
    """Conversations to finetune on and to score."""
    package = "nanochat_plugins.tasks"
    registry.add("arc", build=f"{package}.arc:ARC", config=f"{package}.arc:ARCConfig")
    registry.add(
        "arithmetic", build=f"{package}.arithmetic:Arithmetic", config=f"{package}.arithmetic:ArithmeticConfig"
    )
    registry.add(
        "custom_json", build=f"{package}.custom_json:CustomJSON", config=f"{package}.custom_json:CustomJSONConfig"
    )
    registry.add("gsm8k", build=f"{package}.gsm8k:GSM8K", config=f"{package}.gsm8k:GSM8KConfig")
    registry.add("humaneval", build=f"{package}.humaneval:HumanEval", config=f"{package}.humaneval:HumanEvalConfig")
    registry.add("mmlu", build=f"{package}.mmlu:MMLU", config=f"{package}.mmlu:MMLUConfig")
    registry.add(
        "simple_spelling",
        build=f"{package}.simple_spelling:SimpleSpelling",
        config=f"{package}.simple_spelling:SimpleSpellingConfig",
    )
    registry.add("smoltalk", build=f"{package}.smoltalk:SmolTalk", config=f"{package}.smoltalk:SmolTalkConfig")
    registry.add(
        "spelling_bee", build=f"{package}.spelling_bee:SpellingBee", config=f"{package}.spelling_bee:SpellingBeeConfig"
    )


@hookimpl
def register_transforms(registry: Registrar) -> None:
    """Changes of a model before it is trained."""
    package = "nanochat_plugins.transforms"
    name = "activation_checkpointing"
    registry.add(name, build=f"{package}.{name}:build", config=f"{package}.{name}_config:ActivationCheckpointingConfig")
    registry.add("fp8", build=f"{package}.fp8:build", config=f"{package}.fp8_config:Fp8Config")
    registry.add("molegrad", build=f"{package}.molegrad:build", config=f"{package}.molegrad_config:MolegradConfig")


@hookimpl
def register_evals(registry: Registrar) -> None:
    """Measurements of a checkpoint."""
    package = "nanochat_plugins.evals"
    registry.add("bpb", build=f"{package}.bpb:evaluate", config=f"{package}.bpb_config:BpbConfig")
    registry.add("pass_at_k", build=f"{package}.pass_at_k:evaluate", config=f"{package}.pass_at_k_config:PassAtKConfig")
    registry.add("chatcore", build=f"{package}.chatcore:evaluate", config=f"{package}.chatcore_config:ChatCoreConfig")
    registry.add("core", build=f"{package}.core:evaluate", config=f"{package}.core_config:CoreConfig")
    registry.add("samples", build=f"{package}.samples:evaluate", config=f"{package}.samples_config:SamplesConfig")
    registry.add("task", build=f"{package}.task:evaluate", config=f"{package}.task_config:TaskConfig")
    registry.add(
        "tokenizer", build=f"{package}.tokenizer:evaluate", config=f"{package}.tokenizer_config:TokenizerEvalConfig"
    )


@hookimpl
def register_tools(registry: Registrar) -> None:
    """What a model can call while it answers."""
    package = "nanochat_plugins.tools"
    registry.add("calculator", build=f"{package}.calculator:Calculator")
    registry.add("python", build=f"{package}.python:Python", config=f"{package}.python:PythonConfig")


@hookimpl
def register_trackers(registry: Registrar) -> None:
    """Who is told a run's figures; each needs a package of its name, an extra of this distribution."""
    package = "nanochat_plugins.trackers"
    name = "tensorboard"
    registry.add(name, build=f"{package}.{name}:TensorBoard", config=f"{package}.{name}_config:TensorBoardConfig")
    registry.add("trackio", build=f"{package}.trackio:Trackio", config=f"{package}.trackio_config:TrackioConfig")
    registry.add("wandb", build=f"{package}.wandb:Wandb", config=f"{package}.wandb_config:WandbConfig")
