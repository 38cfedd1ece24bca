"""From weights to encoder bundles that the live path runs. Needs the extra `export`: onnx, safetensors, torch.

    sources/     whatever somebody names, as a `model.Model`: checkpoint folders, published files, own .onnx and .pt2
    making       Model -> float32 graph -> precision -> gate -> bundle; the whole way on one screen
    parity/      how far an export is from its weights: figures, the gate, check.npz, verify
    precisions/  float32 to half precision or 8-bit integers
    networks/    the published encoders in torch
    graphs/      what PyTorch's exporter writes, made into the graph that a bundle holds
    cli/         psm-export and its subcommands

- `crops`, `taking`: faces to calibrate and to measure with. `bench`, `timing`: how fast. `engine`: TensorRT.
- `checkpoint`: the encoder of a checkpoint folder. `write`: the bundle folder, `model_id`, manifest.
- `facecycle`: FaceCycle's encoder as an ONNX graph, written by hand from numpy weights, without torch: adaptation
  exports by it in the live run; `graph` is its small ONNX writer, `reference` the same network in numpy and float64,
  `quantise` puts its layers into integers, `build` and `untrained` make the bundle of drawn weights.

Bundles are described in docs/bundle.md, this package in docs/export.md. The live path (`psm_stream`) reads bundles and
never imports this package.
"""
