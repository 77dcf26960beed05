package node

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"idlewild/job"
	"idlewild/media"
	"idlewild/node/dispatch"
	"idlewild/render/ai"
	"idlewild/verify"
)

// judgeRerun compares a claim with items, or crops, that were run again.
func judgeRerun(t job.Task, leaf job.Leaf, dir string, evidence []dispatch.Evidence) job.Verdict {
	var c job.RerunCheck
	err := job.Decode(t.Check.Params, job.MaxTaskBytes, &c)
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return verify.Unverified(fmt.Errorf("check of task %s: %w", t.Label, err))
	}
	for _, e := range evidence {
		if e.Leaf.Outcome != job.Succeeded {
			return verify.Unverified(fmt.Errorf("running it again ended %s: %s", e.Leaf.Outcome, e.Leaf.Reason))
		}
	}
	if len(evidence) != 1 {
		return verify.Unverified(fmt.Errorf("%d runs to compare with", len(evidence)))
	}
	e := evidence[0]
	files, items, err := ai.ReadEvidence(e.Task)
	if err != nil {
		return verify.Unverified(err)
	}
	claim := filepath.Join(dir, filepath.FromSlash(t.Check.Output))
	limits := verify.MarginFor(c, leaf.DeviceClass, e.Leaf.DeviceClass)
	if c.Items > 0 {
		var again []media.Record
		err := recordsOf(filepath.Join(e.Dir, files[0].File))(func(r media.Record) error {
			again = append(again, r)
			return nil
		})
		if err != nil {
			return verify.Unverified(err)
		}
		if ai.Replays(e.Task) {
			return verify.CompareTokens(verify.Count(c, items, recordsOf(claim)), again)
		}
		return verify.CompareRecords(verify.Count(c, items, recordsOf(claim)), again, limits)
	}
	img, err := decode(claim)
	if err != nil {
		return verify.Undecodable(err)
	}
	var crops []verify.PictureCrop
	for _, f := range files {
		m, err := decode(filepath.Join(e.Dir, f.File))
		if err != nil {
			return verify.Unverified(err)
		}
		crops = append(crops, verify.PictureCrop{Rect: f.Rect, Image: m})
	}
	return verify.ComparePicture(c, t.Part.Tile, img, crops, stepOf(img), limits)
}

// recordsOf reads a file of them.
func recordsOf(file string) func(func(media.Record) error) error {
	return func(each func(media.Record) error) error {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		return media.ReadRecords(f, each)
	}
}

// recordsIn reads a file of records that is in memory.
func recordsIn(b []byte) func(func(media.Record) error) error {
	return func(each func(media.Record) error) error { return media.ReadRecords(bytes.NewReader(b), each) }
}

// stepOf is the distance of two neighbouring values in a picture's file.
func stepOf(m *media.Image) float64 {
	if len(m.Channels) == 0 {
		return 0
	}
	switch m.Channels[0].Sample {
	case media.Uint8:
		return 1.0 / 255
	case media.Uint16:
		return 1.0 / 65535
	}
	return 0
}
