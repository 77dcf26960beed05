package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"idlewild/node/localapi"
	"idlewild/p2p"
)

func passphraseFlags() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{Name: "passphrase-file", DefaultText: "asked on the terminal", Usage: "the passphrase is the first line of `FILE`; - is stdin"}}
}

// maxPassphrase is what the door takes.
const maxPassphrase = 1024

// passphrase is the one thing that is asked for: on a terminal, unseen, where no
// file is named. In a flag or the environment others could read it.
func (k *call) passphrase(twice bool) (string, error) {
	if name := k.String("passphrase-file"); name != "" {
		in := k.in
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return "", usage{err}
			}
			defer f.Close()
			in = f
		}
		line, err := bufio.NewReader(io.LimitReader(in, maxPassphrase+2)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" || len(line) > maxPassphrase {
			return "", usagef("the first line of --passphrase-file has to be the passphrase, of 1 to %d bytes", maxPassphrase)
		}
		return line, nil
	}
	tty, ok := k.in.(*os.File)
	if !ok || !term.IsTerminal(int(tty.Fd())) {
		return "", usagef("no terminal to ask for the passphrase: give --passphrase-file FILE, or - for stdin")
	}
	ask := func(what string) (string, error) {
		fmt.Fprint(k.err, what+": ")
		b, err := term.ReadPassword(int(tty.Fd()))
		fmt.Fprintln(k.err)
		return string(b), err
	}
	first, err := ask("Passphrase")
	if err != nil || !twice {
		return first, err
	}
	second, err := ask("The same again")
	if err == nil && second != first {
		err = usagef("these are two different passphrases")
	}
	return first, err
}

// farmBackupDone is what came of a backup.
type farmBackupDone struct {
	File  string `json:"file"`
	Bytes int    `json:"size_bytes"`
}

func farmBackup(k *call) error {
	path, err := filepath.Abs(k.Args().First())
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return usagef("%s is there already: name another file", path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	pass, err := k.passphrase(true)
	if err != nil {
		return err
	}
	return withFarm(k, func(c *localapi.Client) (farmBackupDone, error) {
		b, err := c.BackupFarm(k.Context.Context, pass)
		if err != nil {
			return farmBackupDone{}, err
		}
		return farmBackupDone{path, len(b)}, writeNew(path, b)
	}, func(v farmBackupDone) {
		k.say("%s: the farm's root key and its members; keep it and the passphrase in places of their own", v.File)
	})
}

// writeNew writes a file that is not there yet, on disk when it returns.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

func farmRecover(k *call) error {
	f, err := os.Open(k.Args().First())
	if err != nil {
		return usage{err}
	}
	b, err := io.ReadAll(io.LimitReader(f, localapi.MaxBackupBytes+1))
	f.Close()
	if err != nil {
		return err
	}
	if len(b) > localapi.MaxBackupBytes {
		return usagef("%s is too long for a backup of a farm", k.Args().First())
	}
	pass, err := k.passphrase(false)
	if err != nil {
		return err
	}
	return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
		return c.RecoverFarm(k.Context.Context, b, pass)
	}, func(v localapi.FarmView) {
		k.say("this machine is an owner of farm %s (%s); if somebody else may have the key: idlewild farm rotate --carry 0s", clean(v.Name), v.ID)
	})
}

func farmRotate(k *call) error {
	carry := k.Duration("carry")
	if carry < 0 || carry > p2p.MaxCarry {
		return usagef("--carry is %v; it may be 0s to %v", carry, p2p.MaxCarry)
	}
	return withFarm(k, func(c *localapi.Client) (localapi.FarmView, error) {
		return c.RotateFarm(k.Context.Context, carry)
	}, func(v localapi.FarmView) {
		k.say("farm %s has a new root key; make a new backup: idlewild farm backup FILE", clean(v.Name))
	})
}
