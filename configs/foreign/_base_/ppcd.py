# What makes a model of MMagic one that is pruned: a config takes these parts
# beside its base, as those of this folder do.
custom_imports = dict(imports=['ppcd_mmagic'], allow_failed_imports=False)

# Around the generator of the base. One score for what only leaves together,
# as along a residual path.
masked = dict(type='MaskedGenerator', tie=True)
# Beside the base's own hooks; the second is told when to begin and to end.
pruning = dict(
    extra_losses=dict(type='ExtraLossesHook'),
    mask_binarization=dict(
        type='MaskBinarizationHook', alpha=0.5, schedule='cubic'
    ),
)
