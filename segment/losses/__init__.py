"""Losses over logits and class indices. MONAI's are used as they are; what stands here composes them."""
