"""Expression vocabularies: centres of what faces do, tokens, and vectors of tokens by the company that they keep.

Source: Tran et al., AU-GloVe; Pennington, Socher, Manning 2014 (GloVe). docs/vocabulary.md says what differs.
"""
