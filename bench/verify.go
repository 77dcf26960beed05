package main

import (
	"context"
	"flag"
	"os"

	cheats "idlewild/bench/verify"
)

func init() {
	benchmarks["verify"] = benchmark{"cheats that are caught and honest frames that are not, on scenes rendered for it", verifyBench}
}

func verifyBench(ctx context.Context, args []string) ([]Figure, error) {
	fs := flag.NewFlagSet("verify", flag.ContinueOnError)
	o := cheats.Options{Log: os.Stderr, Out: os.Stderr}
	fs.StringVar(&o.Dir, "dir", "out/verify", "where renders are kept from run to run")
	fs.BoolVar(&o.Quick, "quick", false, "four scenes of 320x180 instead of twelve of 640x360")
	fs.BoolVar(&o.Small, "small", false, "render test scenes that are not there yet at 320x180")
	fs.BoolVar(&o.Have, "have", false, "render nothing, judge the scenes of which all is there")
	fs.BoolVar(&o.Render, "render", false, "only render")
	fs.BoolVar(&o.Training, "training", false, "the training scenes, on which limits were fitted, instead of the test scenes")
	fs.IntVar(&o.Draws, "draws", 100, "checks of each cheat")
	fs.IntVar(&o.Honest, "honest", 520, "checks of each honest frame, and of each with cheap tiles")
	fs.StringVar(&o.Only, "only", "", "only scenes whose names hold this")
	fs.BoolVar(&o.Kept, "kept", false, "neither render nor judge: print the table of the record that is kept with this program")
	fs.StringVar(&o.Record, "record", "", "write what was found, draw by draw, to this file")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	found, err := cheats.Run(ctx, o)
	if err != nil {
		return nil, err
	}
	var out []Figure
	for _, f := range found {
		switch {
		case f.Without:
			out = append(out, plain(f.Name, f.Value, f.Unit))
		case f.AtMost:
			out = append(out, atMost(f.Name, f.Value, f.Unit, f.Goal))
		default:
			out = append(out, atLeast(f.Name, f.Value, f.Unit, f.Goal))
		}
	}
	return out, nil
}
