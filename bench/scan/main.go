// Command scan is what the benchmarks of scanning run as a child: one snapshot
// of a folder, with nothing in the program but what that needs, so that its
// memory and CPU time are those of the snapshot.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/klauspost/compress/zstd"

	"idlewild/diffupload"
	"idlewild/diffupload/store"
)

func main() {
	dir := flag.String("store", "", "the `FOLDER` of a store; without, everything is known and nothing is stored")
	cache := flag.String("cache", "", "the `FILE` of a stat cache")
	blake := flag.Bool("blake3", false, "address with blake3")
	compress := flag.Bool("compress", false, "compress what is new, as it is once when it is sent")
	run := flag.Bool("run", false, "run the `PROGRAM` that follows and tell what it cost")
	flag.Parse()
	if *run {
		if err := child(flag.Args()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if err := scan(flag.Arg(0), *dir, *cache, *blake, *compress); err != nil {
		fmt.Fprintln(os.Stderr, "scan:", err)
		os.Exit(1)
	}
}

// child runs a program and prints what it cost, in the place of its output.
func child(args []string) error {
	c := exec.Command(args[0], args[1:]...)
	c.Stderr = os.Stderr
	began := time.Now()
	if err := c.Run(); err != nil {
		return err
	}
	took := time.Since(began)
	cost := map[string]float64{
		"cpu_s": (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds(), "wall_s": took.Seconds(),
	}
	if u, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok {
		cost["rss_mib"] = float64(u.Maxrss) / 1024
		if runtime.GOOS == "darwin" {
			cost["rss_mib"] /= 1024
		}
	}
	return json.NewEncoder(os.Stdout).Encode(cost)
}

func scan(path, dir, cacheFile string, blake, compress bool) (err error) {
	files, err := below(path)
	if err != nil {
		return err
	}
	o := diffupload.Options{Owner: "bench"}
	if blake {
		o.Hash = diffupload.BLAKE3
	}
	if cacheFile != "" {
		if o.Cache, err = diffupload.OpenStatCache(cacheFile); err != nil {
			return err
		}
	}
	var s diffupload.Store = &knowing{}
	if dir != "" {
		l, err := store.Open(dir, store.Options{})
		if err != nil {
			return err
		}
		defer func() {
			if cerr := l.Close(); err == nil {
				err = cerr
			}
		}()
		s = l
		if compress {
			s = packed{l}
		}
	}
	r, err := diffupload.Snapshot(context.Background(), s, files, o)
	if err != nil {
		return err
	}
	if o.Cache != nil {
		if err := o.Cache.Save(); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"root": r.Root.String(), "files": r.Files, "bytes": r.Bytes, "new_bytes": r.NewBytes, "new_blocks": r.NewBlocks, "read": r.Read,
	})
}

func below(path string) (files []diffupload.File, err error) {
	if fi, err := os.Stat(path); err != nil || !fi.IsDir() {
		return []diffupload.File{{Path: path, Name: filepath.Base(path)}}, err
	}
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, diffupload.File{Path: p, Name: filepath.ToSlash(p[len(path)+1:])})
		}
		return err
	})
	return files, err
}

// knowing is a store that has whatever it is asked for: what is measured is the
// way from a file to addresses.
type knowing struct{ diffupload.Memory }

func (*knowing) Missing(context.Context, []cid.Cid) ([]cid.Cid, error) { return nil, nil }

// packed is a store whose new blocks are compressed once as well.
type packed struct{ *store.Local }

func (p packed) PutHashed(ctx context.Context, blocks []diffupload.Block) error {
	pack(blocks)
	return p.Local.PutHashed(ctx, blocks)
}

var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // options are constant
	}
	return e
}}

func pack(blocks []diffupload.Block) {
	e := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(e)
	var buf []byte
	for _, b := range blocks {
		buf = e.EncodeAll(b.Data, buf[:0])
	}
}
