package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"idlewild/node"
	"idlewild/node/localapi"
)

func storeCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:            "store",
		Usage:           "look after the blocks that this machine keeps",
		HideHelpCommand: true,
		OnUsageError:    usageError,
		Action: func(x *cli.Context) error {
			if name := x.Args().First(); name != "" {
				return usagef("there is no command %q; see: idlewild store --help", "store "+name)
			}
			return usagef("store needs one of stat, gc, verify, import; see: idlewild store --help")
		},
		Subcommands: []*cli.Command{
			command(p, &cli.Command{Name: "stat", Usage: "how much is in it"}, 0, 0, storeStat),
			command(p, &cli.Command{
				Name: "gc", Usage: "drop what no job holds, the least recently used first",
				Flags: []cli.Flag{&cli.Int64Flag{Name: "keep", Usage: "stop where at most `BYTES` are left"}},
			}, 0, 0, storeGC),
			command(p, &cli.Command{Name: "verify", Usage: "read everything and drop what is damaged"}, 0, 0, storeVerify),
			command(p, &cli.Command{
				Name: "import", Usage: "take the blocks of a content archive; no daemon may be running", ArgsUsage: "FILE.car",
			}, 1, 1, storeImport),
		},
	}
}

// withStore does one thing to the store: through the daemon, or directly where
// there is none.
func withStore[T any](k *call, asked func(context.Context, *localapi.Client) (T, error), direct func(context.Context, localapi.Store) (T, error), tell func(T)) error {
	ctx := k.Context.Context
	client, err := k.client()
	if err == nil {
		defer client.Close()
		v, err := asked(ctx, client)
		if err != nil {
			return err
		}
		return k.answer(v, func() { tell(v) })
	}
	if !errors.Is(err, localapi.ErrNoDaemon) {
		return err
	}
	cfg, err := k.farmConfig()
	if err != nil {
		return err
	}
	s, shut, err := node.OpenStore(cfg)
	if err != nil {
		return err
	}
	v, err := direct(ctx, s)
	if err = errors.Join(err, shut()); err != nil {
		return err
	}
	return k.answer(v, func() { tell(v) })
}

func storeStat(k *call) error {
	return withStore(k, func(ctx context.Context, c *localapi.Client) (localapi.StoreView, error) {
		return c.Store(ctx)
	}, func(_ context.Context, s localapi.Store) (localapi.StoreView, error) {
		return s.Stat(), nil
	}, func(v localapi.StoreView) { k.say("%s", storeText(v)) })
}

func storeGC(k *call) error {
	keep := k.Int64("keep")
	if keep < 0 {
		return usagef("--keep is %d bytes; it may not be negative", keep)
	}
	return withStore(k, func(ctx context.Context, c *localapi.Client) (localapi.StoreWork, error) {
		return c.CollectStore(ctx, keep)
	}, func(ctx context.Context, s localapi.Store) (localapi.StoreWork, error) {
		freed, err := s.GC(ctx, keep)
		return localapi.StoreWork{FreedBytes: freed, Store: s.Stat()}, err
	}, func(w localapi.StoreWork) { k.say("freed %s; %s", bytesText(w.FreedBytes), storeText(w.Store)) })
}

func storeVerify(k *call) error {
	return withStore(k, func(ctx context.Context, c *localapi.Client) (localapi.StoreWork, error) {
		return c.VerifyStore(ctx)
	}, func(ctx context.Context, s localapi.Store) (localapi.StoreWork, error) {
		read, dropped, err := s.Verify(ctx)
		return localapi.StoreWork{Read: read, Dropped: dropped, Store: s.Stat()}, err
	}, func(w localapi.StoreWork) {
		k.say("%s read, %d damaged and dropped; %s", plural(w.Read, "block", "blocks"), w.Dropped, storeText(w.Store))
	})
}

func storeImport(k *call) error {
	path, err := absolute(k.Args().First())
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return refuseFile(err)
	}
	cfg, err := k.farmConfig()
	if err != nil {
		return err
	}
	r, err := node.ImportCAR(k.Context.Context, cfg, path)
	if err != nil {
		return err
	}
	return k.answer(r, func() {
		k.say("%s, %s; roots: %s", plural(r.Blocks, "block", "blocks"), bytesText(r.Bytes), strings.Join(r.Roots, ", "))
	})
}

func storeText(v localapi.StoreView) string {
	text := fmt.Sprintf("%d blocks, ", v.Blocks) + bytesText(v.Bytes) + ", on disk " + bytesText(v.DiskBytes)
	if v.QuotaBytes > 0 {
		text += ", quota " + bytesText(v.QuotaBytes)
	}
	return text
}
