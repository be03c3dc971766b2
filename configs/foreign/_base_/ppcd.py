# What makes a model of MMagic one that is pruned: a config takes these parts
# beside its base, as those of this folder do.
custom_imports = dict(imports=['ppcd_mmagic'], allow_failed_imports=False)

# Around the generator of the base. One score for what only leaves together,
# as along a residual path.
masked = dict(type='MaskedGenerator', tie=True)
# Scores live on another scale than weights.
mask_rates = dict(custom_keys={'.mask.': dict(lr_mult=10)})
# Beside the base's own hooks; the second is told when to begin and to end. This
# weight of L_PP is for a model whose own loss is about 1.
pruning = dict(
    extra_losses=dict(
        type='ExtraLossesHook',
        pruning_loss=dict(type='MaskL1Loss', loss_weight=0.1),
    ),
    mask_binarization=dict(
        type='MaskBinarizationHook', alpha=0.5, schedule='cubic'
    ),
    # nothing that is written is lost, and a resumed training is the same
    checkpoint=dict(type='SafeCheckpointHook', out_dir=None),
    iter_seed=dict(type='IterSeedHook'),
)
