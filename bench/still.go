package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"idlewild/job"
)

func init() {
	benchmarks["still"] = benchmark{"how much faster two workers are than one at a single long frame, by tiles and by ranges of samples", still}
}

// still renders one heavy frame with one worker and with two, each on a core
// of its own: as a whole, in tiles, and in ranges of its samples. What is put
// together afterwards, finished and checked counts.
func still(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("still", flag.ContinueOnError)
	samples := fs.Int("samples", 160, "of the frame: the default takes one core a minute or two")
	tiles := fs.String("tiles", "4x3", "columns and rows of tiles")
	ranges := fs.String("ranges", "8s", "ranges of samples")
	file := fs.String("file", "", "a .blend of yours instead of the demo scene; ranges need adaptive sampling off and light passes only")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	f, err := newFarm(ctx)
	if err != nil {
		return nil, err
	}
	defer f.close()
	scene, err := sceneOrDemo(ctx, f, *file)
	if err != nil {
		return nil, err
	}
	requester, workers, err := f.cores(ctx, 2)
	if err != nil {
		return nil, err
	}
	var figures []Figure
	var whole float64
	for _, parts := range []string{"no", *tiles, *ranges} {
		var alone job.Status
		for n := 1; n <= 2; n++ {
			if parts == "no" && n == 2 {
				break // there is nothing for the second to do
			}
			if err := working(ctx, workers, n); err != nil {
				return figures, err
			}
			s, err := f.render(ctx, requester, scene, fmt.Sprintf("out-%s-%d", parts, n),
				"-f", "1", "--resolution", "960x540", "--samples", fmt.Sprint(*samples), "--parts", parts)
			if err != nil {
				return figures, fmt.Errorf("parts %s: %w", parts, err)
			}
			fmt.Fprintf(os.Stderr, "parts %s, %d worker(s): %.1f s, %d rechecked, %d rejected\n", parts, n, s.WallSeconds, s.Rechecked, s.Rejected)
			if s.Rejected > 0 {
				return figures, fmt.Errorf("parts %s: %d honest results were rejected", parts, s.Rejected)
			}
			switch {
			case parts == "no":
				whole = s.WallSeconds
				figures = append(figures, plain("whole, one worker", whole, "s"))
			case n == 1:
				alone = s
				figures = append(figures, plain("parts "+parts+", one worker, against the whole", s.WallSeconds/whole, ""))
			default:
				figures = append(figures, atLeast("parts "+parts+", two workers against one that renders it whole", whole/s.WallSeconds, "x", 1.8),
					plain("parts "+parts+", two workers against one", alone.WallSeconds/s.WallSeconds, "x"))
			}
		}
	}
	return figures, nil
}
