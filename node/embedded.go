package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"idlewild/diffupload/store"
	"idlewild/job"
	"idlewild/ledger"
	"idlewild/node/dispatch"
	"idlewild/node/worker"
	"idlewild/verify"
)

// EmbeddedOptions of RunEmbedded.
type EmbeddedOptions struct {
	Nodes  int // workers that share this machine; at least 1
	Config Config
	Spec   job.Spec
	Log    *slog.Logger // nil: silent
}

// RunEmbedded runs one job on a whole farm inside this process: a dispatcher
// and workers joined in memory, without a network and without a daemon. watch
// is told what happens, from one goroutine. It returns the job as it ended;
// when ctx ends before, the job is cancelled.
//
// The workers are this machine, so their results are checked only where the
// spec's own rate asks for it.
func RunEmbedded(ctx context.Context, o EmbeddedOptions, watch func(job.Event, job.Status)) (job.Status, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Nodes < 1 {
		return job.Status{}, errors.New("a farm needs at least one node")
	}
	dir, err := os.MkdirTemp("", "idlewild-render-*")
	if err != nil {
		return job.Status{}, err
	}
	defer os.RemoveAll(dir)
	if o.Spec.Policy.Recheck == nil {
		o.Spec.Policy.Recheck = new(float64) // all of it is this machine: nothing is kept for a checker
	}
	cfg := o.Config
	if cfg.Worker.Threads == 0 {
		cfg.Worker.Threads = max(1, runtime.NumCPU()/o.Nodes)
	}
	key, self, err := newPeer()
	if err != nil {
		return job.Status{}, err
	}
	blocks, err := store.Open(filepath.Join(dir, "store"), store.Options{})
	if err != nil {
		return job.Status{}, err
	}
	defer blocks.Close()
	book, err := ledger.Open(filepath.Join(dir, "ledger"), ledger.Options{Key: key, Self: self, Policy: ledger.Policy{Rate: func(checked, rejected int) float64 {
		if rejected > 0 {
			return 1
		}
		return 0
	}}})
	if err != nil {
		return job.Status{}, err
	}
	defer book.Close()
	cfg.Worker.Spare = false // nothing comes after it
	machine, err := newKit(ctx, cfg, filepath.Join(dir, "scratch"), o.Log)
	if err != nil {
		return job.Status{}, err
	}
	defer machine.close()
	if len(machine.machine.Devices) == 0 {
		return job.Status{}, errors.New("every device of this machine is disabled in the settings; take enable = false out of [[devices]]")
	}

	market := newBazaar()
	content := &content{self: self, store: blocks, served: map[job.ID]int64{}}
	jobs, err := dispatch.NewDispatcher(dispatch.Deps{
		Self: self, Key: key, Kinds: machine.planners, Content: content, Market: market, Results: content,
		Judge: &judge{croppers: machine.croppers, samplers: machine.samplers, limits: verify.DefaultThresholds(), canaries: openCanaries("", o.Log)},
		Book:  book, Sink: folderSink{}, Dir: filepath.Join(dir, "dispatch"), Log: o.Log,
	}, dispatch.Options{})
	if err != nil {
		return job.Status{}, err
	}
	defer jobs.Close()
	market.own = jobs

	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var workers, rest sync.WaitGroup
	rest.Go(func() {
		if err := jobs.Run(life); err != nil && life.Err() == nil {
			o.Log.Error("dispatcher", "error", err)
		}
	})
	workLife, endWork := context.WithCancel(life)
	for i := range o.Nodes {
		wkey, wself, home := key, self, self
		if i > 0 {
			if wkey, wself, err = newPeer(); err != nil {
				break
			}
			home = ""
		}
		w := worker.New(worker.Deps{
			Self: wself, Key: wkey, Swarm: stall{market, life, wself},
			Assets:  &assets{self: wself, store: blocks, members: func() []peer.ID { return []peer.ID{self} }},
			Exec:    machine.exec,
			Machine: func() job.Machine { return onNode(machine.machine, i) },
			Dir:     filepath.Join(dir, fmt.Sprintf("worker%d", i)), Log: o.Log.With("node", i),
		}, worker.Options{Home: home, CPU: machine.cpu, TreeBytes: cfg.Worker.TreeBytes})
		workers.Go(func() {
			if err := w.Run(workLife); err != nil {
				o.Log.Error("worker", "node", i, "error", err)
			}
		})
	}
	defer func() {
		endWork()
		workers.Wait()
		end()
		rest.Wait()
	}()
	if err != nil {
		return job.Status{}, err
	}

	id, err := jobs.Submit(ctx, o.Spec)
	if err != nil {
		return job.Status{}, err
	}
	watching, stopWatching := context.WithCancel(life)
	defer stopWatching()
	stopped := context.AfterFunc(ctx, func() {
		if err := jobs.Steer(life, id, job.Cancel); err != nil {
			o.Log.Error("cancel", "error", err)
			stopWatching()
		}
	})
	defer stopped()
	const first = 1 // everything that happened to the job: there is no other
	for e := range jobs.Watch(watching, id, first) {
		s, err := jobs.Status(id)
		if err != nil {
			return s, err
		}
		if watch != nil {
			watch(e, s)
		}
		if s.State.Ended() {
			break
		}
	}
	return jobs.Status(id)
}

// onNode is the machine as one of several nodes on it offers it: the device's
// name says whose warm process a task gets, so each node has its own.
func onNode(m job.Machine, node int) job.Machine {
	if node == 0 {
		return m
	}
	out := job.Machine{Facts: m.Facts}
	for _, d := range m.Devices {
		if d.Type != "cpu" {
			continue // a GPU is one device, whoever asks
		}
		d.Name = fmt.Sprintf("%s-%d", d.Name, node)
		out.Devices = append(out.Devices, d)
	}
	return out
}

func newPeer() (crypto.PrivKey, peer.ID, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	id, err := peer.IDFromPrivateKey(key)
	return key, id, err
}
