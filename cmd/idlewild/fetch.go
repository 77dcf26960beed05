package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"idlewild/job"
)

func fetchCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:        "fetch",
		Usage:       "the files of a job that were delivered so far; with -o, copies of them",
		ArgsUsage:   "JOB",
		Description: "Nothing is listed before it was accepted.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "copy them into the folder `DIR`"},
		},
	}, 1, 1, fetch)
}

// fetchDoc is the document of fetch.
type fetchDoc struct {
	Job     job.ID   `json:"job"`
	Folder  string   `json:"folder"` // where Files lie
	Files   []string `json:"files"`  // absolute
	Missing []string `json:"missing,omitempty"`
	Tasks   int      `json:"tasks"`
}

func fetch(k *call) error {
	id, err := k.jobArg(0)
	if err != nil {
		return err
	}
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := client.Job(k.Context.Context, id)
	if err != nil {
		return err
	}
	to := ""
	if o := k.String("output"); o != "" {
		if to, err = absolute(o); err != nil {
			return err
		}
	}
	d, err := delivered(s, to)
	if err != nil {
		return err
	}
	err = k.answer(d, func() {
		for _, f := range d.Files {
			k.say("%s", clean(f))
		}
	})
	if err == nil && len(d.Missing) > 0 {
		return fmt.Errorf("%s, %s first; render again with: idlewild requeue %s FRAME", plural(len(d.Missing), "file was delivered and is gone", "files were delivered and are gone"), d.Missing[0], id)
	}
	return err
}

// delivered are the files of a job that are here, or copies of them in the folder
// to.
func delivered(s job.Status, to string) (fetchDoc, error) {
	d := fetchDoc{Job: s.Job, Folder: s.Output, Files: []string{}, Tasks: s.Tasks}
	if to != "" {
		d.Folder = to
	}
	for _, f := range s.Frames {
		for _, file := range f.Files {
			if !filepath.IsAbs(file) {
				file = filepath.Join(s.Output, filepath.FromSlash(file))
			}
			if _, err := os.Stat(file); err != nil {
				d.Missing = append(d.Missing, file)
				continue
			}
			if to != "" {
				var err error
				if file, err = copyInto(to, s.Output, file); err != nil {
					return d, err
				}
			}
			d.Files = append(d.Files, file)
		}
	}
	return d, nil
}

// copyInto copies a file of the folder from into the folder to, under the name
// it has there, whole or not at all.
func copyInto(to, from, file string) (string, error) {
	name, err := filepath.Rel(from, file)
	if err != nil || !filepath.IsLocal(name) {
		name = filepath.Base(file)
	}
	dst := filepath.Join(to, name)
	if dst == file {
		return dst, nil
	}
	fail := func(err error) (string, error) {
		var pe *os.PathError
		if errors.As(err, &pe) {
			return "", fmt.Errorf("copy to %s: %w", dst, pe.Err)
		}
		return "", fmt.Errorf("copy to %s: %w", dst, err)
	}
	if err := os.MkdirAll(filepath.Dir(dst), 0o777); err != nil {
		return fail(err)
	}
	in, err := os.Open(file)
	if err != nil {
		return fail(err)
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return fail(err)
	}
	out, err := os.CreateTemp(filepath.Dir(dst), ".idlewild-*")
	if err != nil {
		return fail(err)
	}
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Chmod(fi.Mode().Perm()), out.Sync(), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), dst)
	}
	if err != nil {
		_ = os.Remove(out.Name()) // the first error says enough
		return fail(err)
	}
	return dst, nil
}
