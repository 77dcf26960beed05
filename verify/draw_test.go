package verify

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"idlewild/job"
)

func TestDrawIsDeterministicInsideAndLargeEnough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 5000).Draw(t, "w"), rapid.IntRange(1, 5000).Draw(t, "h")
		secret := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "secret")
		root := [32]byte{byte(rapid.IntRange(0, 255).Draw(t, "root"))}
		o := DrawOptions{Crops: rapid.IntRange(0, 5).Draw(t, "crops")}
		rects := Draw(secret, root, w, h, o)
		if d := cmp.Diff(rects, Draw(secret, root, w, h, o)); d != "" {
			t.Fatal(d)
		}
		whole := job.Rect{X1: w, Y1: h}
		area := 0
		for _, r := range rects {
			if r.X0 < 0 || r.Y0 < 0 || r.X1 > w || r.Y1 > h || r.Dx() <= 0 || r.Dy() <= 0 {
				t.Fatalf("%v in %dx%d", r, w, h)
			}
			in := judged(r, whole)
			if in.Dx() <= 0 || in.Dy() <= 0 {
				t.Fatalf("%v judges nothing", r)
			}
			area += in.Dx() * in.Dy()
		}
		if len(rects) == 0 || len(rects) > 6 {
			t.Fatalf("%d crops", len(rects))
		}
		want := min(w*h, max(6000, w*h/100))
		if area < want {
			t.Fatalf("%v judge %d of %dx%d pixels, want %d", rects, area, w, h, want)
		}
		// In a narrow frame strips of whole blocks are more than was wanted.
		if len(rects) > 1 && area > 2*want && min(w, h) > 6*blockSide {
			t.Fatalf("%v judge %d of %dx%d pixels: too many", rects, area, w, h)
		}
	})
}

func TestDrawCoversTheFrame(t *testing.T) {
	// Every place can be hit, corners included, and nobody can steer.
	const w, h, draws = 200, 100, 4000
	var hits [h][w]int
	for i := range draws {
		for _, r := range Draw([]byte{byte(i), byte(i >> 8)}, [32]byte{}, w, h, DrawOptions{}) {
			for y := r.Y0; y < r.Y1; y++ {
				for x := r.X0; x < r.X1; x++ {
					hits[y][x]++
				}
			}
		}
	}
	mean := 0
	for _, row := range hits {
		for _, n := range row {
			mean += n
		}
	}
	mean /= w * h
	for y, row := range hits {
		for x, n := range row {
			if n < mean/5 {
				t.Fatalf("pixel %d,%d was hit %d times, the mean is %d", x, y, n, mean)
			}
		}
	}
	a := Draw([]byte("a"), [32]byte{}, w, h, DrawOptions{})
	if cmp.Equal(a, Draw([]byte("b"), [32]byte{}, w, h, DrawOptions{})) || cmp.Equal(a, Draw([]byte("a"), [32]byte{1}, w, h, DrawOptions{})) {
		t.Error("secret or root does not matter")
	}
}

func TestRanges(t *testing.T) {
	for n := 1; n < 300; n++ {
		at := 5
		rs := Ranges(job.Range{From: 5, To: 5 + n}, []byte{byte(n)}, [32]byte{})
		for _, r := range rs {
			if r.From != at || r.To <= r.From {
				t.Fatalf("%d samples: %v", n, rs)
			}
			at = r.To
		}
		if at != 5+n || (n >= 4) != (len(rs) == 3) {
			t.Fatalf("%d samples: %v", n, rs)
		}
	}
	// Wherever a worker leaves samples out, the cuts fall elsewhere next time.
	cuts := map[int]bool{}
	for n := range 200 {
		rs := Ranges(job.Range{To: 100}, []byte{byte(n)}, [32]byte{})
		if rs[0].To < 30 || rs[0].To > 60 || rs[1].To < 70 || rs[1].To > 95 {
			t.Fatalf("ranges %v", rs)
		}
		cuts[rs[0].To], cuts[rs[1].To] = true, true
	}
	if len(cuts) < 45 {
		t.Errorf("%d places to cut", len(cuts))
	}
}

func TestCropsStayInTheClaimedPart(t *testing.T) {
	c := job.CropCheck{Pass: "Combined", Width: 1000, Height: 800, Samples: 64}
	claimed := job.Part{Tile: job.Rect{X0: 400, Y0: 100, X1: 600, Y1: 300}}
	crops := Crops(c, claimed, []byte("s"), [32]byte{}, DrawOptions{})
	if len(crops) != 6 {
		t.Fatalf("%d crops", len(crops))
	}
	for _, r := range crops {
		if r.X0 < 400 || r.Y0 < 100 || r.X1 > 600 || r.Y1 > 300 {
			t.Errorf("%v", r)
		}
	}
	// With adaptive sampling a tile's outermost pixels are not the frame's.
	c.Adaptive = true
	for _, tile := range []job.Rect{{X0: 400, Y0: 100, X1: 600, Y1: 300}, {X1: 60, Y0: 700, Y1: 800}} {
		for i := range 50 {
			for _, r := range Crops(c, job.Part{Tile: tile}, []byte{byte(i)}, [32]byte{}, DrawOptions{Pixels: 1 << 20}) {
				want := job.Rect{X0: tile.X0 + Pad, Y0: tile.Y0 + Pad, X1: tile.X1 - Pad, Y1: tile.Y1 - Pad}
				if tile.X0 == 0 {
					want.X0, want.Y1 = 0, 800
				}
				if r != want {
					t.Fatalf("%v of tile %v, want %v", r, tile, want)
				}
			}
		}
	}
	c.Adaptive = false
	if d := cmp.Diff(Draw([]byte("s"), [32]byte{}, 1000, 800, DrawOptions{}), Crops(c, job.Part{}, []byte("s"), [32]byte{}, DrawOptions{})); d != "" {
		t.Error(d)
	}
}

func TestRateFallsWithTrustAndNeverToNothing(t *testing.T) {
	for _, c := range []struct {
		checked, rejected int
		base, want        float64
	}{
		{0, 0, 0.05, 1}, {9, 0, 0.05, 1}, {10, 0, 0.05, 1}, {20, 0, 0.05, 0.5}, {100, 0, 0.05, 0.1},
		{1e6, 0, 0.05, 0.05}, {1e6, 0, 1e-9, 1e-5}, {0, 0, 0, 0}, {50, 0, 0, 0}, {50, 1, 0, 1}, {50, 1, 0.05, 1},
		{110, 1, 0.05, 1}, {200, 1, 0.05, 0.1}, {5, 0, 7, 1},
	} {
		if got := Rate(c.checked, c.rejected, c.base); got != c.want {
			t.Errorf("Rate(%d, %d, %g) = %g, want %g", c.checked, c.rejected, c.base, got, c.want)
		}
	}
}

func TestSelectedMeetsItsRateAndCannotBePicked(t *testing.T) {
	for _, rate := range []float64{0, 0.05, 0.5, 1} {
		n := 0
		const draws = 20000
		for i := range draws {
			if Selected([]byte("secret"), [32]byte{byte(i), byte(i >> 8)}, rate) {
				n++
			}
		}
		if got := float64(n) / draws; got < rate*0.9 || got > rate*1.1 {
			t.Errorf("rate %g: %g were selected", rate, got)
		}
	}
	differ := 0
	for i := range 100 {
		if Selected([]byte("a"), [32]byte{byte(i)}, 0.5) != Selected([]byte("b"), [32]byte{byte(i)}, 0.5) {
			differ++
		}
	}
	if differ < 20 {
		t.Errorf("the secret decides %d of 100", differ)
	}
}
