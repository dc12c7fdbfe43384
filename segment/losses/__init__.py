"""Losses over logits and class indices. MONAI's are used unchanged; the ones here combine them."""
