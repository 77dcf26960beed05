package verify

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"idlewild/job"
	"idlewild/verify"
)

// Record is what a run's checks found, draw by draw, without its renders: small
// enough to be kept, so that the table can be printed again, and the policy be
// played with checks that really were made.
type Record struct {
	// Thresholds are those that the run began with. What was recorded says
	// nothing of others.
	Thresholds verify.Thresholds
	Blender    string
	Claims     []Recorded
}

// Recorded is one claim of one scene.
type Recorded struct {
	Scene, Claim string
	Goal         string `json:",omitempty"` // the row of the table that it counts for
	Adaptive     bool   `json:",omitempty"`
	// Rulings has a letter for each draw of crops: a, u or r, for accepted,
	// unsure and rejected.
	Rulings string
}

const letters = "aur"

var byLetter = []job.Ruling{job.Accepted, job.Unsure, job.Rejected}

// Looks are the rulings, draw by draw.
func (r Recorded) Looks() []job.Ruling {
	out := make([]job.Ruling, len(r.Rulings))
	for i := range r.Rulings {
		out[i] = byLetter[strings.IndexByte(letters, r.Rulings[i])]
	}
	return out
}

// Honest says that the claim is an honest one.
func (r Recorded) Honest() bool { return r.Goal == goalHonest }

func (t *table) record(blender string) Record {
	out := Record{Thresholds: verify.DefaultThresholds(), Blender: blender}
	for _, r := range t.all {
		c := Recorded{Scene: r.scene, Claim: r.claim, Goal: r.goal, Adaptive: r.adaptive}
		b := make([]byte, len(r.of))
		for i, x := range r.of {
			for k, y := range byLetter {
				if x == y {
					b[i] = letters[k]
				}
			}
		}
		c.Rulings = string(b)
		out.Claims = append(out.Claims, c)
	}
	return out
}

func (r Record) table() *table {
	t := &table{}
	for _, c := range r.Claims {
		t.all = append(t.all, rulings{claim: c.Claim, scene: c.Scene, goal: c.Goal, adaptive: c.Adaptive, of: c.Looks()})
	}
	return t
}

// save writes the record: one line a claim, packed.
func (r Record) save(path string) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(z).Encode(r); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

//go:embed testdata/record.json.gz
var kept []byte

// Kept is the record of the run that bench/NOTES.md tells of.
func Kept() (Record, error) {
	r, err := load(kept)
	if err != nil {
		return Record{}, fmt.Errorf("testdata/record.json.gz: %w", err)
	}
	return r, nil
}

func load(b []byte) (Record, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.NewDecoder(io.LimitReader(z, 64<<20)).Decode(&r); err != nil {
		return Record{}, err
	}
	for _, c := range r.Claims {
		if bad := strings.Trim(c.Rulings, letters); bad != "" {
			return Record{}, fmt.Errorf("%s, %s: no ruling is called %q", c.Scene, c.Claim, bad[:1])
		}
	}
	return r, nil
}
