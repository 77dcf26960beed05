package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"idlewild/job"
	kinds "idlewild/render/blender"
)

// framesDir is where the artist's film is put.
func (e *evening) framesDir() string { return filepath.Join(e.out, "frames") }

// press submits the open scene in the artist's window.
func (e *evening) press(ctx context.Context, frames int) (*watched, artistAnswer, error) {
	a, err := e.blender.does(ctx, 3*time.Minute, map[string]any{"do": "submit", "output": e.framesDir(), "frames": fmt.Sprintf("1-%d", frames)})
	if err != nil {
		return nil, a, err
	}
	e.animation = job.ID(a.Job)
	w := e.watch(ctx, e.artist, e.animation)
	err = poll(ctx, 3*time.Minute, "a frame is given out", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.leased.IsZero() {
			return errors.New("none is")
		}
		e.say("clicked %s, %s, given out %s", time.UnixMilli(int64(1e3*a.Clicked)).UTC().Format("15:04:05.0"), strings.Join(w.phases, ", "), w.leased.UTC().Format("15:04:05.0"))
		return nil
	})
	return w, a, err
}

// given is how long after the click the first frame was given out.
func (w *watched) given(a artistAnswer) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return float64(w.leased.UnixNano())/1e9 - a.Clicked
}

// animate submits an animated scene from Blender. One of those that work for it
// cheats, and one is switched off in the middle and comes back.
func (e *evening) animate(ctx context.Context) error {
	w, a, err := e.press(ctx, e.first)
	if err != nil {
		return err
	}
	e.add(atMost("the artist's main thread held by the submission, beside Blender's save", 1e3*(a.Held-a.Save), "ms", 300), e.noted("addon", "of it beside Blender's save, worst", 3.6, true), "seven machines share two cores")
	e.add(plain("click to first frame given out, first time", w.given(a), "s"), alone{}, "")
	if err := w.until(ctx, 5*time.Minute, 4); err != nil {
		return err
	}
	desk, err := e.artist.peer(ctx, e.desk.name)
	if err != nil {
		return err
	}
	e.say("desk loses its power with %d of %d delivered", w.count(), e.first)
	e.desk.kill9()
	if err := rest(ctx, 5*time.Second); err != nil {
		return err
	}
	if err := e.farm.restart(ctx, e.desk); err != nil {
		return err
	}
	back := time.Now()
	err = poll(ctx, time.Minute, "desk works again", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, at := range w.grants[desk.Peer] {
			if at.After(back) {
				return nil
			}
		}
		if w.status.State.Ended() {
			return fatal{errors.New("the film was finished before: too short for this machine")}
		}
		return errors.New("it was given nothing")
	})
	if err != nil {
		return err
	}
	e.add(atMost("desk is back: given work again after", time.Since(back).Seconds(), "s", 10), e.noted("netlab", "link cut for 40s: delivers again after", 1.4, true), "its daemon starts anew, where alone a cable is put back")
	s, err := e.end(ctx, "film", e.artist, w, e.first)
	if err != nil {
		return err
	}
	if err := contactSheet(filepath.Join(e.out, "contact-sheet.png"), s); err != nil {
		return err
	}
	if w.rejected.IsZero() {
		return errors.New("nothing of the cheat was rejected")
	}
	e.add(plain("first frame given out to first frame of the cheat rejected", w.rejected.Sub(w.leased).Seconds(), "s"), alone{}, "")
	e.add(plain("share of the workers' time that became frames", s.Efficiency, ""), e.noted("demo", "", .97, false), "four machines on two cores, one of them cheats, one leaves")
	e.add(plain("bytes to four workers, first time", float64(s.UploadedBytes), "B"), alone{2 * 1860580, "make demo, twice its two workers, NOTES.md", true}, "the steward copies the content and each result, which is counted with it")
	panel, err := e.blender.does(ctx, time.Minute, map[string]any{"do": "ended", "job": string(w.id)})
	if err != nil {
		return err
	}
	if panel.State != string(job.StateFinished) {
		return fmt.Errorf("the panel says that the film is %s", panel.State)
	}
	e.add(atMost("longest time that the panel took of the artist's main thread", 1e3*panel.LongTick, "ms", 20), e.noted("addon", "longest drain of the queue", .8, true), "every event of a farm of seven is told, and the cores are busy")
	return nil
}

// edits submits the scene again after three edits, while another artist
// submits, and closes the laptop in the middle.
func (e *evening) edits(ctx context.Context) error {
	for n := 1; n <= 3; n++ {
		if _, err := e.blender.does(ctx, time.Minute, map[string]any{"do": "edit", "edit": n}); err != nil {
			return err
		}
	}
	began := time.Now()
	both := make(chan error, 1)
	var other *watched
	go func() {
		id, err := e.submit(ctx, e.second, "submit", e.other, "-o", filepath.Join(e.out, "second-frames"), "--json", "-f", fmt.Sprintf("1-%d", e.first/3))
		if err == nil {
			other = e.watch(ctx, e.second, id)
		}
		both <- err
	}()
	w, a, err := e.press(ctx, 2*e.first)
	if err2 := <-both; err2 != nil {
		return fmt.Errorf("the second artist: %w", err2)
	}
	if err != nil {
		return err
	}
	e.add(atMost("click to first frame given out, after three edits, beside another artist", w.given(a), "s", 3), e.noted("addon", "after a small edit, worst of three: click to job taken: to first frame given out", .55, true), "three submissions are looked at at the same time; their phases stand above")
	// Later results go to the steward as well, and are counted with it.
	if err := w.returns(ctx, 4*time.Minute); err != nil {
		return err
	}
	sent, err := e.artist.client.Job(ctx, w.id)
	if err != nil {
		return err
	}
	e.add(plain("bytes of three edits to the workers, until the first frame is back", float64(sent.UploadedBytes), "B"), alone{452, "make demo (one edit, two workers), NOTES.md", true}, "three edits go to three workers and to the steward")
	if err := poll(ctx, 4*time.Minute, "the steward ready and some frames delivered", func() error {
		s, err := e.artist.client.Job(ctx, w.id)
		if err != nil {
			return err
		}
		if len(s.Stewards) != 1 || s.Stewards[0].State != "ready" || s.Delivered < 3 {
			if s.State.Ended() {
				return fatal{errors.New("the film ended before: too short for this machine")}
			}
			return fmt.Errorf("%d delivered, stewards %+v", s.Delivered, s.Stewards)
		}
		return nil
	}); err != nil {
		return err
	}
	if e.large != nil { // what is being submitted cannot be left alone
		if err := e.submitted(ctx); err != nil {
			return err
		}
	}
	had, theirs := w.count(), other.count()
	acknowledged, err := filepath.Glob(filepath.Join(e.framesDir(), "*.png"))
	if err != nil {
		return err
	}
	e.say("the laptop is closed with %d of %d delivered; the second artist has %d", had, 2*e.first, theirs)
	e.asleep(e.artist)
	cut := time.Now()
	var first time.Duration
	if err := poll(ctx, 3*time.Minute, "the steward goes on", func() error {
		s, err := e.nas.client.Job(ctx, w.id)
		if err != nil {
			return err
		}
		if s.State.Ended() {
			return fatal{fmt.Errorf("there was nothing left to go on with: %s", s.State)}
		}
		for _, t := range s.Frames {
			if t.State == "leased" {
				first = time.Since(cut)
				return nil
			}
		}
		return errors.New("nothing is granted yet")
	}); err != nil {
		return err
	}
	e.add(atMost("laptop closed: the steward's first grant after", first.Seconds(), "s", 90), e.noted("steward", "first grant after the cut", 59.8, true), "")
	if err := rest(ctx, 40*time.Second); err != nil {
		return err
	}
	s, err := e.nas.client.Job(ctx, w.id)
	if err != nil {
		return err
	}
	meanwhile := s.Delivered
	e.say("the laptop is opened after %.0f s; %d are delivered at the steward, the second artist has %d", time.Since(cut).Seconds(), meanwhile, other.count())
	e.woken(e.artist)
	at := time.Now()
	if err := poll(ctx, 2*time.Minute, "the job back", func() error {
		s, err := e.artist.client.Job(ctx, w.id)
		if err == nil && (s.Holder != "" || s.Delivered < max(had, meanwhile)) {
			err = fmt.Errorf("%d delivered, held by %q", s.Delivered, s.Holder)
		}
		return err
	}); err != nil {
		return err
	}
	e.add(plain("laptop opened: the job is back after", time.Since(at).Seconds(), "s"), e.noted("steward", "job back after the requester's start", 2.5, true), "alone a result is a few bytes and is not checked; here it is a picture to fetch, to check and to finish")
	if s, err = e.end(ctx, "edited film", e.artist, w, 2*e.first); err != nil {
		return err
	}
	e.add(plain("from the click to the end, the laptop closed in between", time.Since(began).Seconds(), "s"), alone{}, "")
	lost := 0
	for _, f := range acknowledged {
		if fi, err := os.Stat(f); err != nil || fi.Size() == 0 {
			lost++
		}
	}
	e.add(atMost("acknowledged frames lost", float64(lost), "", 0), e.noted("steward", "acknowledged frames lost", 0, true), "")
	if err := contactSheet(filepath.Join(e.out, "contact-sheet-edited.png"), s); err != nil {
		return err
	}
	if _, err := e.end(ctx, "the second artist's film", e.second, other, e.first/3); err != nil {
		return err
	}
	_, err = e.blender.does(ctx, time.Minute, map[string]any{"do": "save"})
	return err
}

// larger has the finished frames made larger, and a film of them.
func (e *evening) larger(ctx context.Context) error {
	stat := func() (out []time.Time, err error) {
		for n := 1; n <= e.first; n++ {
			fi, err := os.Stat(filepath.Join(e.framesDir(), fmt.Sprintf("%04d.png", n)))
			if err != nil {
				return nil, err
			}
			out = append(out, fi.ModTime())
		}
		return out, nil
	}
	was, err := stat()
	finished := err == nil
	id, err := e.submit(ctx, e.artist, "submit", e.scene, "-o", e.framesDir(), "--json", "-f", fmt.Sprintf("1-%d", e.first), "--upscale", e.model, "--video", "h264", "--reuse")
	if err != nil {
		return err
	}
	w := e.watch(ctx, e.artist, id)
	select {
	case err := <-w.done:
		if err != nil {
			return err
		}
		w.done <- nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s, err := e.end(ctx, "larger frames and a video", e.artist, w, w.status.Tasks)
	if err != nil {
		return err
	}
	now, err := stat()
	if err != nil {
		return err
	}
	if finished {
		again := 0
		for i := range was {
			if !now[i].Equal(was[i]) {
				again++
			}
		}
		// Some of the reused are drawn for a check, rendered, and written again: nobody knows yet whether all the others hold.
		e.add(plain("finished frames that were drawn, compared and delivered again", float64(s.ReuseChecked), ""), alone{}, "every fiftieth")
		e.add(atMost("other finished frames that were delivered again", float64(again-s.ReuseChecked), "", 0), alone{}, "")
	}
	for n := 1; n <= e.first; n++ {
		at := filepath.Join(e.framesDir(), kinds.EnlargedFolder, fmt.Sprintf("%04d.png", n))
		if w, h, err := pngSize(at); err != nil || w != 800 || h != 448 {
			return fmt.Errorf("%s has %dx%d pixels: %v", at, w, h, err)
		}
	}
	films, err := filepath.Glob(filepath.Join(e.framesDir(), "*.mp4"))
	if err != nil || len(films) != 1 {
		return fmt.Errorf("%d films are there: %v", len(films), err)
	}
	frames, err := filmFrames(ctx, films[0])
	if err != nil {
		return err
	}
	if frames != e.first {
		return fmt.Errorf("the film has %d frames", frames)
	}
	e.add(plain("larger frames and a film of the finished ones, all of it", s.WallSeconds, "s"), alone{}, "")
	return nil
}

// filmFrames counts them by decoding.
func filmFrames(ctx context.Context, file string) (int, error) {
	out, err := exec.CommandContext(ctx, "ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", file).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("ffprobe %s: %w: %s", file, err, out)
	}
	return strconv.Atoi(strings.TrimSpace(strings.Trim(strings.TrimSpace(string(out)), ",")))
}

// still renders one large frame in tiles. The owner of desk comes home in the
// middle and plays.
func (e *evening) still(ctx context.Context) error {
	id, err := e.submit(ctx, e.artist, "submit", e.scene, "-o", filepath.Join(e.out, "still"), "--json", "-f", "12", "--resolution", "960x540", "--samples", "48", "--parts", "4x3")
	if err != nil {
		return err
	}
	w := e.watch(ctx, e.artist, id)
	if _, err := rendering(ctx, e.desk); err != nil {
		return err
	}
	game, err := e.play(ctx, 20*time.Second)
	if err != nil {
		return err
	}
	if err := poll1(ctx, 30*time.Second, "the owner's machine is free", func() bool { return len(descendants(e.desk.cmd.Process.Pid)) == 0 }); err != nil {
		return err
	}
	free := time.Since(game.began).Seconds()
	why, err := e.desk.client.Why(ctx)
	if err != nil {
		return err
	}
	for _, d := range why.Devices {
		e.say("desk's %s: %s, %s: %s; also %s", d.Name, d.Level, d.Signal, d.Reason, strings.Join(d.Also, "; "))
	}
	r, err := game.end(ctx)
	if err != nil {
		return err
	}
	e.add(atMost("the owner starts a game: no process of ours after", free, "s", 2), e.noted("yield", "owner returns -> no process of ours, p99", .89, true), "the game itself has to start first")
	e.add(plain("frames of the game that came late, of 100", 100*float64(r.Late)/float64(r.Frames), ""), alone{100 * float64(e.quietGame.Late) / float64(e.quietGame.Frames), "the game alone, this run", true}, "the other machines run on the owner's core as well")
	e.add(plain("99 of 100 frames of the game within", r.P99, "ms"), alone{e.quietGame.P99, "the game alone, this run", true}, "the other machines run on the owner's core as well")
	s, err := e.end(ctx, "still in tiles", e.artist, w, 1)
	if err != nil {
		return err
	}
	f := filepath.Join(e.out, "still", "0012.png")
	if w, h, err := pngSize(f); err != nil || w != 960 || h != 540 {
		return fmt.Errorf("%s has %dx%d pixels: %v", f, w, h, err)
	}
	e.add(plain(fmt.Sprintf("still in %d tiles, with the owner away and back", eveningTiles), s.WallSeconds, "s"), alone{}, "")
	return nil
}

// project submits the project of 2 GB. It is under way while all that follows
// happens: projectEnd waits for it.
func (e *evening) project(ctx context.Context) error {
	l := &largeJob{planned: make(chan struct{})}
	e.large = l
	go func() {
		defer close(l.planned)
		start := time.Now()
		l.id, l.err = e.submit(ctx, e.artist, "submit", filepath.Join(e.bigProject(), projectMain), "-o", filepath.Join(e.out, "project-frames"), "--json",
			"-f", fmt.Sprintf("12-%d", 11+eveningBig), "--resolution", "320x180", "--samples", "4", "--parts", "no", "--only", "nas", "--priority", "-1", "--steward", "none")
		e.say("the large project was looked at, stored and planned in %.0f s", time.Since(start).Seconds())
	}()
	return nil
}

// submitted waits until the large project is planned.
func (e *evening) submitted(ctx context.Context) error {
	if e.large == nil {
		return errors.New("the large project was not submitted: run the phase project as well")
	}
	select {
	case <-e.large.planned:
		return e.large.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// projectEnd waits for the large project's frames.
func (e *evening) projectEnd(ctx context.Context) error {
	if err := e.submitted(ctx); err != nil {
		return err
	}
	w := e.watch(ctx, e.artist, e.large.id)
	s, err := e.end(ctx, "the large project", e.artist, w, eveningBig)
	if err != nil {
		return err
	}
	e.add(plain("content of the large project", float64(s.ContentBytes)/1e9, "GB"), alone{}, "")
	e.add(plain("of it crossed the network", float64(s.UploadedBytes)/1e9, "GB"), alone{1.551, "bench submit, Ethernet headers included, NOTES.md", true}, "it is fetched again where the worker was interrupted")
	e.add(plain("two frames of the large project, beside everything else", s.WallSeconds, "s"), alone{}, "")
	return nil
}

// batch has OpenAI's client send a batch to the second artist's door.
func (e *evening) batch(ctx context.Context) error {
	embedder := filepath.Join(e.dir, "embedder.onnx")
	if err := os.WriteFile(embedder, eveningEmbedder(), 0o600); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, e.bin, "model", "add", embedder, "--data-dir", e.second.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("model add: %w: %s", err, out)
	}
	script := filepath.Join(e.dir, "evening_openai.py")
	if err := os.WriteFile(script, eveningOpenAI, 0o600); err != nil {
		return err
	}
	door, err := newDoorClient(e.second.dir)
	if err != nil {
		return err
	}
	c := e.hosts[e.second].Command(ctx, openAIPython(), script, door.base+"/v1", door.token, strconv.Itoa(eveningRequests))
	var errs strings.Builder
	c.Stderr = &errs
	b, err := c.Output()
	if err != nil {
		return fmt.Errorf("the client: %w: %s", err, errs.String())
	}
	var r struct {
		Client  string  `json:"client"`
		Took    float64 `json:"took_s"`
		Answers int     `json:"answers"`
		Failed  int     `json:"failed"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("the client printed %q: %w", b, err)
	}
	e.say("%s: %d answers in %.1f s", r.Client, r.Answers, r.Took)
	e.add(atLeast(fmt.Sprintf("batch of %d embeddings: right answers", eveningRequests), float64(r.Answers), "", eveningRequests), alone{}, "")
	e.add(atMost("  errors", float64(r.Failed), "", 0), e.noted("door", "a member: 200 clients at once, errors", 0, true), "")
	e.add(plain("  upload to last answer", r.Took, "s"), alone{}, "")
	if r.Answers != eveningRequests || r.Failed != 0 {
		return fmt.Errorf("%d answers and %d errors to %d requests", r.Answers, r.Failed, eveningRequests)
	}
	return nil
}

// openAIPython is the Python with OpenAI's client that `make clients` fetched, or
// any: the script does without.
func openAIPython() string {
	for _, p := range []string{os.Getenv("IDLEWILD_TEST_OPENAI_PYTHON"), filepath.Join("out", "clients", "bin", "python")} {
		if fi, err := os.Stat(p); err == nil && !fi.IsDir() {
			if abs, err := filepath.Abs(p); err == nil {
				return abs
			}
		}
	}
	return "python3"
}
