package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"idlewild/chunker"
)

func chunkCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:      "chunk",
		Usage:     "where a file would be cut, how large the pieces are, and how fast that goes",
		ArgsUsage: "FILE",
		Flags: []cli.Flag{
			&cli.BoolFlag{DisableDefaultText: true, Name: "cuts", Usage: "list every chunk"},
		},
	}, 1, 1, chunk)
}

// chunkDoc is the document of chunk.
type chunkDoc struct {
	Bytes          int64   `json:"bytes"`
	Chunks         int     `json:"chunks"`
	MinBytes       int     `json:"min_bytes"` // of the chunks but the last
	MeanBytes      float64 `json:"mean_bytes"`
	MaxBytes       int     `json:"max_bytes"`
	Seconds        float64 `json:"took_s"` // reading included
	BytesPerSecond float64 `json:"bytes_per_s"`
	Kernel         string  `json:"kernel"` // what did it: see chunker.KernelVariable
	Cuts           []cut   `json:"cuts,omitempty"`
}

type cut struct {
	Offset int64 `json:"offset_bytes"`
	Size   int   `json:"size_bytes"`
}

func chunk(k *call) error {
	f, err := os.Open(k.Args().First())
	if err != nil {
		return refuseFile(err)
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.IsDir() {
		return usagef("%s is a folder; chunk takes a file", k.Args().First())
	}
	kernel, err := chunker.KernelName()
	if err != nil {
		return usagef("%w", err)
	}
	d := chunkDoc{Kernel: kernel}
	start := time.Now()
	ctx := k.Context.Context
	last := 0
	for c, err := range chunker.Chunks(f, chunker.Params{}) {
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
		if ctx.Err() != nil {
			return errInterrupted
		}
		if last > 0 && (d.MinBytes == 0 || last < d.MinBytes) {
			d.MinBytes = last
		}
		last = len(c.Data)
		d.Chunks++
		d.Bytes += int64(last)
		d.MaxBytes = max(d.MaxBytes, last)
		if k.Bool("cuts") {
			d.Cuts = append(d.Cuts, cut{c.Offset, last})
		}
	}
	d.Seconds = time.Since(start).Seconds()
	if d.MinBytes == 0 {
		d.MinBytes = last
	}
	if d.Chunks > 0 {
		d.MeanBytes = float64(d.Bytes) / float64(d.Chunks)
		d.BytesPerSecond = float64(d.Bytes) / d.Seconds
	}
	return k.answer(d, func() {
		for _, c := range d.Cuts {
			k.say("%12d %8d", c.Offset, c.Size)
		}
		k.say("%s of %s: %s to %s, mean %s; %s/s with the %s kernel", plural(d.Chunks, "chunk", "chunks"), bytesText(d.Bytes),
			bytesText(int64(d.MinBytes)), bytesText(int64(d.MaxBytes)), bytesText(int64(d.MeanBytes)), bytesText(int64(d.BytesPerSecond)), d.Kernel)
	})
}

// refuseFile says that a file that was named cannot be read.
func refuseFile(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return usagef("%s: %w", pe.Path, pe.Err)
	}
	return err
}
