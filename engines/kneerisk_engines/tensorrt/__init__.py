"""TensorRT and TensorRT-RTX: typed graphs, builds, the checked cache, bundles, the runner."""
