"""Prepared knees in memory: splits, augmentation, pairs of visits, latents."""
