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
	o := cheats.Options{Log: os.Stderr}
	fs.StringVar(&o.Dir, "dir", "out/verify", "where renders are kept from run to run")
	fs.BoolVar(&o.Quick, "quick", false, "four scenes of 320x180 instead of twelve of 640x360")
	fs.BoolVar(&o.Render, "render", false, "only render")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	return nil, cheats.Run(ctx, o)
}
