"""The report of a session: one page, made of what was recorded, that opens in any browser without a network.

collecting  the log -> `story.Story`, with its parts clock, runs, saying, happenings, plane
page        the story -> HTML, by the figures timeline, scatter, transitions, sheets, quality
markup, axes, palette, naming   what the figures have in common
"""
