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
FORM_TERMS = (
    "Compare the sections of this tune: give a letter for each, a prime for a variation, and the name of the form.",
    "How is this piece laid out? Answer with letters and the usual term for the form.",
    "Analyse the sections below and name the form, as in AB: Binary.",
)
MOTIFS = (
    "Find in each section of this tune the group of notes that returns most often.",
    "Which motif is each section built on? Write it in ABC.",
    "Point out the figure that recurs most in every section.",
)
DESCRIPTION = (
    "Describe this tune in a few sentences: key, meter, length, compass.",
    "What can be said of the following piece from its notation alone?",
    "Sum up the facts of this tune.",
)
TERMS_TO_TUNE = (
    "Compose a tune of the named form that grows out of this motif.",
    "Use the motif below to write a piece in the given form.",
    "Write music in ABC: the form is named, and this figure should return in its first section.",
)
TERMS_ONLY = (
    "Write a tune in ABC notation that has this form.",
    "Compose a piece laid out as the following term says.",
    "Give an example, in ABC, of a tune with the form named here.",
)
STYLE = (
    "Write a tune in ABC notation in the manner named below.",
    "Compose something that could stand in this collection.",
    "Produce a melody as it might come from the source below.",
)
VARIATION = (
    "Write a variation of this section that stays close to it.",
    "Play this part again with small changes. Give the changed bars in ABC.",
    "Vary the following bars as a fiddler would on the repeat.",
)
CHORDS_TO_TUNE = (
    "Write a tune in ABC notation over this chord progression.",
    "Compose a melody that goes with these chords, in this order.",
    "Set music to the chords below and write both in ABC.",
)
HARMONISATION = (
    "Add chord symbols to this melody.",
    "Harmonise the following tune: put chords above its bars.",
    "Write the tune again with fitting chords.",
)
RULE_HARMONISATION = (
    "Put over each bar the one of the triads I, IV and V that holds most of its sounding time.",
    "Harmonise by rule: for every bar the primary triad (I, IV or V) that covers its notes best, I before V before IV.",
    "Give each bar its tonic, dominant or subdominant chord, whichever shares most with the melody.",
)
TRANSPOSITION = (
    "Transpose this tune to {key}.",
    "Write the following piece again in {key}.",
    "Move this melody to {key} and give it in ABC.",
)
UNIT = (
    "Write this tune with the unit note length {unit}; it must sound the same.",
    "Change the L: field to {unit} and rewrite the notes accordingly.",
    "Notate the same music with L:{unit}.",
)
REPAIR = (
    "One bar of this tune does not add up. Say which, and how long it is, and write it as it should be.",
    "Find the bar whose length is wrong and put it right.",
    "There is a mistake of rhythm in one bar below. Which bar is it, and how should it read?",
)
NOW_TRANSPOSE = ("Now put it into {key}.", "Transpose it to {key}, please.", "And in {key}?")
NOW_UNIT = ("Write it with L:{unit}.", "Keep the sound, but use the unit note length {unit}.")
NOW_HARMONISE = (
    "Put a chord over each bar: I, IV or V, whichever shares most with the melody.",
    "Add one primary triad a bar, the one that covers its notes best, I before V before IV.",
)
NOW_MOTIFS = ("Which figure returns most often in each section?", "Show me the motif of every section.")
NOW_FORM = ("What is its form?", "Name its sections by letters, and the form.")
NOW_KEY = ("Which key is it in now?", "Name the key it stands in.")
NOW_DESCRIBE = ("Describe it.", "Tell me about the tune as it stands now.")
