"""The general model: synthetic faces, the aligner as a free teacher, and the training of the encoder that ships."""
