"""How good an embedding is: probes, neutral faces, retrieval, ranking, and comparisons over people.

`labels` says what a frame shows, `features` what a model says of it, `probe` and its neighbours how well one predicts
the other. docs/evaluation.md gives each protocol in words.
"""
