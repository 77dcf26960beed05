package node

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"idlewild/job"
	"idlewild/media"
)

// Kept implements dispatch.Sink.
func (folderSink) Kept(s job.Spec, t job.Task, at time.Time) bool {
	if !(folderSink{}).Delivered(s, t) {
		return false
	}
	for _, o := range t.Outputs {
		if o.Final == "" {
			continue
		}
		fi, err := os.Stat(filepath.Join(s.Output, filepath.FromSlash(o.Final)))
		if err != nil || fi.ModTime().After(at) {
			return false
		}
	}
	return true
}

// Differs implements dispatch.Sink.
func (folderSink) Differs(ctx context.Context, s job.Spec, t job.Task, dir string) (string, error) {
	for _, o := range t.Outputs {
		if o.Final == "" {
			continue
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
		fresh, there := filepath.Join(dir, filepath.FromSlash(o.Name)), filepath.Join(s.Output, filepath.FromSlash(o.Final))
		differs, err := filesDiffer(fresh, there)
		if err != nil {
			return "", err
		}
		if differs != "" {
			return o.Final + ": " + differs, nil
		}
	}
	return "", nil
}

// filesDiffer compares two files, as pictures where they are some that are read
// here. What cannot be read of there differs; trouble with fresh is an error.
func filesDiffer(fresh, there string) (string, error) {
	a, err := os.ReadFile(fresh)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(there)
	if err != nil {
		return "it cannot be read", nil
	}
	if bytes.Equal(a, b) {
		return "", nil
	}
	m, err := media.Decode(a, media.Limits{})
	if err != nil {
		return "other bytes", nil
	}
	n, err := media.Decode(b, media.Limits{})
	if err != nil {
		return "it is no picture", nil
	}
	return picturesDiffer(m, n), nil
}

// Squares of a picture, and by how much the mean of one may differ before it is
// another picture: in parts of its range, and of the mean where that is more
// than one. Other hardware makes less of a difference, an object more.
const (
	differSquare = 8
	differBy     = 0.02
)

// picturesDiffer says how two pictures differ beyond what other hardware does.
func picturesDiffer(a, b *media.Image) string {
	if a.Width != b.Width || a.Height != b.Height || len(a.Channels) != len(b.Channels) {
		return "another size, or other channels"
	}
	for i, c := range a.Channels {
		d := b.Channels[i]
		if c.Name != d.Name {
			return "other channels"
		}
		for y := 0; y < a.Height; y += differSquare {
			for x := 0; x < a.Width; x += differSquare {
				var p, q float64
				n := 0
				for v := y; v < min(y+differSquare, a.Height); v++ {
					for u := x; u < min(x+differSquare, a.Width); u++ {
						p += float64(c.Data[v*a.Width+u])
						q += float64(d.Data[v*a.Width+u])
						n++
					}
				}
				p, q = p/float64(n), q/float64(n)
				if p == q || math.IsNaN(p) && math.IsNaN(q) {
					continue
				}
				if !(math.Abs(p-q) <= differBy*max(1, math.Abs(p), math.Abs(q))) {
					return fmt.Sprintf("%s differs by %.3g at pixel %d,%d", c.Name, math.Abs(p-q), x, y)
				}
			}
		}
	}
	return ""
}
