// Playing an engraved tune: abcjs makes the sound out of the server's notes; this keeps time by the sound's own clock.

const SOUNDS = "/sound/";
/** Longer tunes are not played: their sound would not fit into memory (C999999999). */
const LONGEST_SECONDS = 600;
const COMMON_TEMPO = 112;

export class Player {
  /**
   * `on.state(playing)`, `on.time(seconds, whole)`, `on.sounding(elements)` and `on.error(line)` are called as it plays.
   */
  constructor(on) {
    Object.assign(this, { on, visual: null, buffer: null, events: [], seconds: 0, at: 0, source: null, looped: false, transpose: 0, program: 0, bpm: COMMON_TEMPO });
  }

  get context() {
    return window.abcjsAudioContext;
  }

  /** Take another tune, or the same after an edit; stops. `bpm` is beats of its meter a minute. */
  load(visual, { transpose = 0, bpm = null, keepTempo = false } = {}) {
    this.pause();
    const written = visual?.metaText?.tempo;
    const tempo = bpm ?? (keepTempo ? this.bpm : written ? visual.getBpm(written) : COMMON_TEMPO);
    Object.assign(this, { visual, transpose, bpm: clamp(Math.round(tempo), 20, 300), buffer: null, at: 0, seconds: 0 });
    this.on.time(0, 0);
    this.on.sounding([]);
  }

  /** The same tune drawn anew: other shapes are lit. */
  redrawn(visual) {
    if (!visual || !this.visual) {
      this.load(visual, { transpose: this.transpose });
      return;
    }
    this.visual = visual;
    if (this.buffer) this.time();
  }

  time() {
    this.visual.setTiming(this.bpm, 0);
    this.events = this.visual.noteTimings.filter((event) => event.type === "event");
  }

  /** Quarter notes a minute, as the server counts them. */
  get quarters() {
    return this.visual ? Math.round(this.bpm * this.visual.getBeatLength() * 4) : null;
  }

  async prepare() {
    const options = { soundFontUrl: SOUNDS, midiTranspose: this.transpose, program: this.program };
    const measure = this.visual.millisecondsPerMeasure(this.bpm);
    const meter = this.visual.getMeterFraction();
    const sound = this.visual.setUpAudio(options);
    const seconds = sound.totalDuration * (measure / 1000) / (meter.num / meter.den);
    if (!(seconds > 0)) throw new Error("There is no note to play.");
    if (seconds > LONGEST_SECONDS) throw new Error(`The tune lasts ${Math.round(seconds)} s; at most ${LONGEST_SECONDS} s are played.`);
    const synth = new window.ABCJS.synth.CreateSynth();
    await synth.init({ visualObj: this.visual, millisecondsPerMeasure: measure, options });
    await synth.prime();
    Object.assign(this, { buffer: synth.getAudioBuffer(), seconds });
    this.time();
  }

  /** Play from where it stands. */
  async play() {
    if (!this.visual || this.source || this.preparing) return;
    const visual = this.visual;
    this.preparing = true;
    this.on.state("preparing");
    try {
      if (!this.buffer) await this.prepare();
      await this.context.resume();
      if (this.visual === visual && this.preparing) this.start();
      else this.on.state("paused");
    } catch (error) {
      this.on.state("paused");
      this.on.error(error.message ?? "The tune could not be played.");
    } finally {
      this.preparing = false;
    }
  }

  start() {
    if (this.at >= this.seconds) this.at = 0;
    this.source = this.context.createBufferSource();
    Object.assign(this.source, { buffer: this.buffer, loop: this.looped, loopStart: 0, loopEnd: this.seconds });
    this.source.connect(this.context.destination);
    this.source.start(0, this.at);
    this.began = this.context.currentTime - this.at;
    this.sounding = null;
    this.on.state("playing");
    this.tick(this.source);
  }

  tick(source) {
    if (source !== this.source) return;
    let now = this.context.currentTime - this.began;
    if (now >= this.seconds && this.looped) {
      this.began += this.seconds * Math.floor(now / this.seconds);
      now %= this.seconds;
    }
    this.at = Math.min(now, this.seconds);
    this.on.time(this.at, this.seconds);
    if (now >= this.seconds) return this.stop();
    this.follow(now * 1000);
    // Not requestAnimationFrame: it stands still in a window that is not seen, while the sound goes on.
    setTimeout(() => this.tick(source), 25);
  }

  follow(milliseconds) {
    let current = null;
    for (const event of this.events) {
      if (event.milliseconds > milliseconds + 15) break;
      current = event;
    }
    if (current === this.sounding) return;
    this.sounding = current;
    this.on.sounding(current?.elements ?? []);
  }

  pause() {
    this.preparing = false;
    const source = this.source;
    this.source = null;
    source?.stop();
    this.on.state("paused");
  }

  /** Stop and go back to the beginning. */
  stop() {
    this.pause();
    this.at = 0;
    this.on.time(0, this.seconds);
    this.on.sounding([]);
  }

  /** Go to a share of the whole, 0 to 1. */
  seek(share) {
    const playing = Boolean(this.source);
    this.pause();
    this.at = clamp(share, 0, 1) * this.seconds;
    this.on.time(this.at, this.seconds);
    if (playing) this.start();
  }

  /** Go to the note written at this character. */
  async seekCharacter(character) {
    if (!this.visual) return;
    if (!this.buffer) this.time();
    const event = this.events.find((each) => each.startCharArray?.includes(character) || each.startChar === character);
    if (!event) return;
    const playing = Boolean(this.source);
    this.pause();
    this.at = event.milliseconds / 1000;
    this.on.sounding(event.elements);
    if (playing) this.start();
  }

  loop(looped) {
    this.looped = looped;
    if (this.source) this.source.loop = looped;
  }

  /** Another tempo. */
  setTempo(bpm) {
    this.bpm = clamp(bpm, 20, 300);
    return this.remake();
  }

  /** Another instrument, by its number in General MIDI, from 0. */
  setProgram(program) {
    this.program = program;
    return this.remake();
  }

  /** Make the sound again and go on from the same place in the music. */
  async remake() {
    const playing = Boolean(this.source);
    const share = this.seconds ? this.at / this.seconds : 0;
    this.pause();
    Object.assign(this, { buffer: null, at: 0, seconds: 0 });
    this.on.time(0, 0);
    if (!playing) return;
    try {
      await this.prepare();
    } catch (error) {
      this.on.error(error.message);
      return;
    }
    this.at = share * this.seconds;
    this.start();
  }
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
