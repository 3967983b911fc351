"""What the core itself registers, through the same door as any plugin."""

from nanochat.hooks import Registrar, hookimpl


@hookimpl
def register_stages(registry: Registrar) -> None:
    """The stages of DESIGN: tokenizer, pretrain, finetune, reinforce, evaluate."""
    registry.add(
        "tokenizer", build="nanochat.stages.tokenizer:run", config="nanochat.stages.tokenizer_config:TokenizerConfig"
    )
    registry.add(
        "pretrain", build="nanochat.stages.pretrain:run", config="nanochat.stages.pretrain_config:PretrainConfig"
    )
    registry.add(
        "finetune", build="nanochat.stages.finetune:run", config="nanochat.stages.finetune_config:FinetuneConfig"
    )
    registry.add(
        "reinforce", build="nanochat.stages.reinforce:run", config="nanochat.stages.reinforce_config:ReinforceConfig"
    )
    registry.add(
        "evaluate", build="nanochat.stages.evaluate:run", config="nanochat.stages.evaluate_config:EvaluateConfig"
    )


@hookimpl
def register_models(registry: Registrar) -> None:
    """The transformer."""
    registry.add("gpt", build="nanochat.model.gpt:build", config="nanochat.model.gpt_config:GPTConfig")


@hookimpl
def register_derivations(registry: Registrar) -> None:
    """The rules behind "auto"."""
    module = "nanochat.stages.derivations"
    for name in ("device", "dtype", "launcher", "nproc_per_node", "shard"):
        registry.add(f"hardware.{name}", build=f"{module}:{name.upper()}")
    registry.add("pretrain.total_batch_size", build=f"{module}:TOTAL_BATCH_SIZE")
    registry.add("pretrain.steps", build=f"{module}:STEPS")
    registry.add("training.tag", build=f"{module}:TAG")
    registry.add("training.compile", build=f"{module}:COMPILE")
    registry.add("optim.lr_factor", build=f"{module}:LR_FACTOR")
    registry.add("muon.weight_decay", build=f"{module}:MUON_WEIGHT_DECAY")
    for name in ("dim", "n_head", "n_kv_head", "vocab_size"):
        registry.add(f"gpt.{name}", build=f"nanochat.model.gpt_config:{name.upper()}")
