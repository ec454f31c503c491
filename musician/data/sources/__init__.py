"""Where rows come from: files, folders, archives, the hub, the corpus of tunes."""
