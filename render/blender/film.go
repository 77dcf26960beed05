package blender

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"idlewild/job"
	"idlewild/render/assemble"
)

// FilmFacts are what film a file's settings, or a person's wish, come to.
// Codec is a preset of SpecParams.Video, empty where the scene's own settings
// say everything.
type FilmFacts struct {
	Codec     string `json:"codec,omitempty"`
	Extension string `json:"extension,omitempty"` // empty: there is no film
	Sound     bool   `json:"sound,omitempty"`
	Own       bool   `json:"own,omitempty"` // the scene's output is a film
}

// Film is what one task makes of finished frames.
type Film struct {
	First  int    `json:"first"` // number of the first frame in the scene, for its sound
	Step   int    `json:"step"`
	Count  int    `json:"count"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Codec  string `json:"codec"` // a preset; empty: the scene's own settings
	Sound  bool   `json:"sound"`
	Frame  string `json:"frame"` // name of a frame's file among its task's outputs
}

// Values of SpecParams.Video beside the empty one, which is the file's own.
const videoNone = "none"

var videoCodecs = []string{"h264", "h265", "av1", "prores"}

// Files of frames that become a film.
const (
	filmFrame  = "film.png"  // beside a finished file that is no PNG
	finalFrame = "frame.png" // the finished file itself
)

// What one reel, and with it one film, can hold.
const (
	reelFrames = 240
	// reelBytes bounds a reel by the largest that its frames can be.
	reelBytes = 4 << 30
	maxReels  = job.MaxTasksPerLease
)

func checkVideo(s string) error {
	if s == "" || s == videoNone || slices.Contains(videoCodecs, s) {
		return nil
	}
	return fmt.Errorf("render options: video is %q, not one of %s, none", clip(s), strings.Join(videoCodecs, ", "))
}

// validate checks what may come from a stranger.
func (f Film) validate() error {
	switch {
	case f.Count < 1 || f.Count > MaxFrames || f.Step < 1 || f.Step > maxFrame || f.First < -maxFrame || f.First > maxFrame || f.First+f.Step*(f.Count-1) > maxFrame:
		return fmt.Errorf("blender task: film of %d frames from %d by %d", f.Count, f.First, f.Step)
	case f.Width < 1 || f.Height < 1 || f.Width > maxSide || f.Height > maxSide:
		return fmt.Errorf("blender task: film of %dx%d pixels", f.Width, f.Height)
	case f.Codec != "" && !slices.Contains(videoCodecs, f.Codec):
		return fmt.Errorf("blender task: film of codec %q", clip(f.Codec))
	case f.Frame != filmFrame && f.Frame != finalFrame && f.Frame != enlargedFrame:
		return fmt.Errorf("blender task: film of files %q", clip(f.Frame))
	}
	return nil
}

// filmed reports whether frames end in a film: one that the scene asks for has
// at least two.
func (f Facts) filmed(frames int) bool {
	return f.Film.Extension != "" && (frames > 1 || !f.Film.Own || f.Film.Codec != "")
}

// frameFile is the file among a finish task's outputs that a film takes.
func (f Facts) frameFile() string {
	if f.extension() == ".png" {
		return finalFrame
	}
	return filmFrame
}

// film is what comes after the finish tasks of all frames, in their order: one
// task that encodes them. It reads at most maxReels predecessors, so that many
// frames are packed into reels first.
func (f Facts) film(spec SpecParams, frames []int, finished []job.Task, input job.Ref) ([]job.Task, error) {
	first, step, regular := regularly(frames)
	width, height, file := f.filmFrames()
	film := Film{
		First: first, Step: step, Count: len(frames), Width: width, Height: height,
		Codec: f.Film.Codec, Sound: f.Film.Sound && regular, Frame: file,
	}
	rank := job.RestRank + len(frames)
	var tasks []job.Task
	after := finished
	if len(finished) > reelFrames {
		size := f.reelSize()
		if most := size * maxReels; len(finished) > most {
			return nil, job.Refuse("film", fmt.Sprintf("%d frames of %dx%d pixels are more than the %d that fit into one", len(frames), width, height, most), "split the job, or pass --video none")
		}
		after = nil
		for from := 0; from < len(finished); from += size {
			some := finished[from:min(from+size, len(finished))]
			reel := job.Task{
				Kind:    assemble.Name,
				Params:  assemble.Params{Op: assemble.OpReel, First: from, Count: len(some), Frame: film.Frame}.Encode(),
				Outputs: []job.OutputRule{{Name: assemble.ReelFile, Media: job.MediaFile}},
				After:   keys(some),
				Label:   fmt.Sprintf("reel %d", from/size+1),
				Needs:   f.afterwards(map[string]string{string(assemble.Name): assemble.VersionReels}),
				Check:   f.again(assemble.ReelFile),
				Place:   f.at,
				Rank:    rank,
			}
			after = append(after, reel)
		}
		tasks = after
	}
	p := Params{Op: opFilm, Main: f.Main, Frame: first, Build: f.Build, Scene: f.Scene, Extension: f.Film.Extension, Film: &film}
	return append(tasks, job.Task{
		Kind:    Name,
		Params:  p.encode(),
		Input:   input,
		Outputs: []job.OutputRule{{Name: "film" + f.Film.Extension, Media: job.MediaFile, Final: filmName(spec.Name, frames) + f.Film.Extension}},
		After:   keys(after),
		Label:   "film",
		Needs:   f.afterwards(map[string]string{FactVersion: f.Version, FactBuild: f.Build}),
		Place:   f.at,
		Rank:    rank + 1,
	}), nil
}

// reelSize is how many frames go into a reel.
func (f Facts) reelSize() int {
	width, height, _ := f.filmFrames()
	bytes := int64(width) * int64(height) * 4
	if f.Depth == "16" || f.Depth == "32" {
		bytes *= 2
	}
	return int(max(1, min(reelFrames, reelBytes/max(bytes, 1))))
}

func keys(tasks []job.Task) []job.TaskKey {
	out := make([]job.TaskKey, len(tasks))
	for i, t := range tasks {
		out[i] = t.Key()
	}
	return out
}

// regularly says how frames are counted. Where they have gaps they are counted
// from the first one on.
func regularly(frames []int) (first, step int, regular bool) {
	first, step = frames[0], 1
	if len(frames) > 1 {
		step = frames[1] - frames[0]
	}
	for i, f := range frames {
		if f != first+i*step {
			return first, 1, false
		}
	}
	return first, step, true
}

// filmName is what Blender calls a film: the first frame and the last one where
// the name has its number.
func filmName(pattern string, frames []int) string {
	i := strings.LastIndex(pattern, "#")
	digits, before, after := 4, pattern, ""
	if i >= 0 {
		j := i
		for j > 0 && pattern[j-1] == '#' {
			j--
		}
		digits, before, after = i-j+1, pattern[:j], pattern[i+1:]
	}
	return before + padded(frames[0], digits) + "-" + padded(frames[len(frames)-1], digits) + after
}

// filmProblems are what is wrong with a film of these frames.
func (f Facts) filmProblems(frames string) []job.Problem {
	list, err := f.frames(frames)
	if err != nil || !f.filmed(len(list)) {
		return nil // the planner says so
	}
	if _, _, regular := regularly(list); !regular && f.Film.Sound {
		return []job.Problem{{
			Severity: job.SeverityWarning, Where: "film", Message: "its frames have gaps (" + strconv.Itoa(len(list)) + " frames), so it is silent",
			Remedy: "submit a range without gaps for a film with sound",
		}}
	}
	return nil
}
