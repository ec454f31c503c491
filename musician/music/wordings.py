"""How instruction tasks are worded: several ways each, one of which is drawn for every task."""

TEXT_TO_ABC = (
    "Write a tune in ABC notation that fits this description.",
    "Here is what is known about a melody. Give it in ABC notation.",
    "Turn the following description into a complete tune, written as ABC.",
    "Please notate a tune with these properties in ABC.",
)
CONTINUATION = (
    "Here is the first half of a tune. Write the second half in ABC notation.",
    "Complete this tune: continue from where the music stops.",
    "The end of this piece is missing. Supply the remaining bars in ABC.",
    "Carry this melody on to its close.",
)
FORM = (
    "Give the form of this tune with one letter for each section as it sounds, repeats written out.",
    "Which sections does this piece play, and in what order? Answer with letters such as AABB.",
    "Name the sections of the tune below by letters, counting each repeat.",
)
FORM_TO_TUNE = (
    "Write a tune in ABC notation that has the given form and starts from the given motif.",
    "Make a complete piece out of this motif, laid out in sections as the letters say.",
    "Compose a tune whose sections follow the form below and which opens with these bars.",
)
KEY_OF_TUNE = (
    "In which key does this tune stand? Give tonic and mode.",
    "Say in words which key the K: field of this tune names.",
    "Name the tonic and the mode of the following tune.",
)
METER_OF_TUNE = (
    "Count the length of the bars below and name their meter.",
    "The meter of this excerpt was left out. Which one is it?",
    "What should stand in the M: field of these bars?",
)
EXERCISE = (
    "Answer the question about this music briefly.",
    "A short exercise in reading ABC notation.",
    "Read the notation and answer.",
)
