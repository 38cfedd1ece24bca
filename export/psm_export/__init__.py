"""From weights to encoder bundles that the live path runs. Needs the extra `export`: onnx, safetensors, torch.

- `sources`: whatever somebody names, as a `model.Model`: `facecycle_model` (checkpoint folders), `published` (the
  authors' files; `architectures` is the table, `networks` the networks in torch), `user` (.onnx), `program` (.pt2),
  `ensemble` (several). torch is imported once something needs it. `drawn`: published networks with random weights.
- `torch_file`, `onnx_safety`, `program_archive`, `program_text`: files of others, read so that nothing executes.
- `to_onnx`, `graph_editing`, `pixel_part`: networks as the graphs that bundles hold; `torch_reference`: what they are
  measured against.
- `facecycle`: FaceCycle's expression encoder as an ONNX graph, from a dict of numpy weights by the authors' keys.
- `reference`: the same network in numpy and float64, which everything is measured against.
- `quantise`: integer arithmetic for such a graph, from the ranges of its activations.
- `build`: a model of a given precision, and how far it is from that reference; `crops`: what it is measured with.
- `write`: the bundle folder: model, `model_id`, parity figures, manifest.
- `checkpoint`: the encoder of a checkpoint folder; `cli`: psm-export.
- `untrained`: the general bundle until a trained one exists; `python -m psm_export.untrained --out DIR`.
- `graph`: the small ONNX writer beneath.

Bundles are described in docs/bundle.md. The live path (`psm_stream`) reads them and never imports this package.
"""
