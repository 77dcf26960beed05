package recordlog_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	. "idlewild/internal/recordlog"
	"idlewild/internal/recordlog/faulty"
)

// segments counts the log's without an operation of the disk.
func segments(t *testing.T, d *faulty.Disk) int {
	left, done := d.Left, d.Done
	d.Left = 1
	names, err := d.List("log")
	if err != nil {
		t.Fatal(err)
	}
	d.Left, d.Done = left, done
	return len(names)
}

// TestPowerCuts cuts the power at every operation of appending, syncing, rotating,
// rewriting, opening and repairing, several times in a row, or ends the process
// there and cuts the power later. What was synced is there ever after, and so is
// what an opening gave back; what is there was written, in that order.
// IDLEWILD_CRASHES says how many cuts; see make chaos.
func TestPowerCuts(t *testing.T) {
	cuts := 1500
	if s := os.Getenv("IDLEWILD_CRASHES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		cuts = n
	}
	rewritten, rotated, torn, killed := 0, 0, 0, 0
	for seed := 0; cuts > 0; seed++ {
		r := rand.New(rand.NewPCG(uint64(seed), 11))
		d := faulty.New(r)
		var written []string // in their order
		safe := 0            // of them, acknowledged
		for life := 0; life < 4 && cuts > 0; life++ {
			d.Left = 1 + r.IntN(150)
			if life == 0 {
				d.Left += 4
			}
			o := Options{Magic: "test", Version: 1, MaxRecord: 1 << 12, SegmentBytes: int64(100 + r.IntN(1500)), Disk: d}
			i := 0
			var got []string
			l, err := Open("log", o, func(b []byte) error { got = append(got, string(b)); i++; return nil })
			if d.Left > 0 {
				if err != nil {
					t.Fatalf("seed %d, life %d: cannot be opened: %v", seed, life, err)
				}
				if len(got) < safe || len(got) > len(written) || !slices.Equal(got, written[:len(got)]) {
					t.Fatalf("seed %d, life %d: %d records came back, %d were written, %d of them acknowledged:\n%s", seed, life, len(got), len(written), safe, strings.Join(got, "\n"))
				}
				if l.Torn != "" {
					torn++
				}
				// Whoever opens it may act on what came back: it stays.
				written, safe = got, len(got)
			}
			for n := 0; d.Left > 0 && err == nil; n++ {
				switch k := r.IntN(10); {
				case k < 6:
					var recs [][]byte
					for range 1 + r.IntN(3) {
						recs = append(recs, fmt.Appendf(nil, "%d.%d.%d %s", seed, life, len(written)+len(recs), strings.Repeat("x", r.IntN(200))))
					}
					was := segments(t, d)
					for _, rec := range recs {
						written = append(written, string(rec))
					}
					if err = l.Append(recs...); err == nil && segments(t, d) > was {
						rotated++
					}
				case k < 9:
					if err = l.Sync(); err == nil {
						safe = len(written)
					}
				default:
					var recs [][]byte
					for _, w := range written {
						recs = append(recs, []byte(w))
					}
					if err = l.Rewrite(recs...); err == nil {
						rewritten++
						safe = len(written)
					}
				}
			}
			if r.IntN(4) == 0 {
				d = d.Killed() // the power goes in a later life
				killed++
				continue
			}
			d = d.Cut()
			cuts--
		}
	}
	t.Logf("%d rewritten, %d rotated, %d torn, %d killed first", rewritten, rotated, torn, killed)
	if rewritten == 0 || rotated == 0 || torn == 0 {
		t.Error("not everything was tried")
	}
}
