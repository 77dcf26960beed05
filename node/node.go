package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	addon "idlewild/blender-addon"
	"idlewild/diffupload"
	"idlewild/diffupload/store"
	"idlewild/job"
	"idlewild/ledger"
	"idlewild/node/dispatch"
	"idlewild/node/hooks"
	"idlewild/node/localapi"
	"idlewild/node/steward"
	"idlewild/node/worker"
	"idlewild/p2p"
	"idlewild/render/ai"
	"idlewild/render/assemble"
	"idlewild/render/echo"
	"idlewild/verify"
)

// Version of the program.
var Version = "0.1.0"

// RunnerMain must be the first thing that a program's main function calls: a
// warm process of some kinds, and the guard of power limits, is this very
// program, and then it never returns.
func RunnerMain() {
	guardMain()
	echo.RunnerMain()
	assemble.RunnerMain()
	ai.RunnerMain()
}

// Node is a daemon: requester and worker in one.
type Node struct {
	// constant after construction
	cfg       Config
	log       *slog.Logger
	key       crypto.PrivKey
	self      peer.ID
	started   time.Time
	live      *live // the settings that may change
	kit       *kit
	host      *p2p.Host
	jobs      *dispatch.Dispatcher
	worker    *worker.Worker
	steward   *steward.Part
	asker     *asker
	claims    chan answerClaim
	book      *ledger.Book
	blocks    *store.Local
	content   *content
	disks     *disks // nil: none
	door      *localapi.Door
	life      context.Context // of links in memory; ends with Run
	end       context.CancelFunc
	owner     *owner
	history   *history
	words     *words
	audit     *audit
	lines     *logRing
	hooks     *hooks.Hooks // nil: nobody is told
	updater   *updater
	release   *p2p.Release
	first     *Node  // of the first farm, whose machine's parts this one shares; nil: this is it
	farms     *farms // beside the first; nil: this is one of them
	turns     *turns
	trees     *blenderTrees
	again     context.Context // ends when Run is to end with ErrRestart
	restart   context.CancelCauseFunc
	metricsAt net.Listener // nil: nowhere
	closers   []func()     // in the order of opening
}

// New opens everything a daemon needs; Run runs it. An error names what is
// missing or taken. What was opened is closed again after an error.
func New(ctx context.Context, cfg Config, log *slog.Logger) (*Node, error) {
	return open(ctx, cfg, log, nil, nil)
}

// open is New, as a node of another release where one is given, and of a further
// farm where the first one's is given.
func open(ctx context.Context, cfg Config, log *slog.Logger, release *p2p.Release, first *Node) (_ *Node, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &Node{cfg: cfg, log: log, started: time.Now(), release: release, first: first}
	if first != nil {
		n.lines, n.live, n.kit, n.turns = first.lines, first.live, first.kit, first.turns
	} else {
		var level slog.Level
		_ = level.UnmarshalText([]byte(cfg.Log.Level)) // the settings were checked
		n.lines, n.live = &logRing{}, newLive(cfg)
		n.log = n.lines.tee(log, level)
		n.turns = newTurns(n.log)
		n.farms = &farms{n: n, more: map[string]*farm{}}
	}
	log = n.log
	n.words = &words{n: n}
	n.again, n.restart = context.WithCancelCause(context.Background())
	n.life, n.end = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	// The door is first: it knows whether a daemon has this folder already.
	if n.door, err = localapi.Listen(cfg.DataDir, cfg.API.Address, log); err != nil {
		return nil, err
	}
	n.closers = append(n.closers, func() { n.door.Close() }) // after Serve it is closed already, which is as good
	if n.key, err = loadIdentity(cfg.DataDir); err != nil {
		return nil, err
	}
	if n.self, err = peer.IDFromPrivateKey(n.key); err != nil {
		return nil, err
	}
	log.Info("starting", "peer", n.self, "name", cfg.Name, "version", Version, "data_dir", cfg.DataDir)

	blocks, err := store.Open(filepath.Join(cfg.DataDir, "store"), store.Options{QuotaBytes: cfg.Store.QuotaBytes})
	if err != nil {
		return nil, err
	}
	n.onClose(blocks.Close)
	n.blocks = blocks
	cache, err := diffupload.OpenStatCache(filepath.Join(cfg.DataDir, "stat.cache"))
	if err != nil {
		return nil, err
	}
	book, err := ledger.Open(filepath.Join(cfg.DataDir, "ledger"), ledger.Options{Key: n.key, Self: n.self, Farm: n.farm, Policy: cfg.Check.Policy()})
	if err != nil {
		return nil, err
	}
	n.onClose(book.Close)
	if cut := book.Repaired(); cut != "" {
		log.Warn("ledger repaired", "reason", cut)
	}
	n.book = book
	if first == nil {
		if n.kit, err = newKit(ctx, cfg, filepath.Join(cfg.DataDir, "scratch"), log); err != nil {
			return nil, err
		}
		n.closers = append(n.closers, n.kit.close)
	}
	if err := keepSpecimens(ctx, blocks, n.kit.specimens); err != nil {
		log.Warn("what every file of a program here has in it will be fetched", "error", err)
	}

	listen, err := cfg.Network.listen()
	if err != nil {
		return nil, err
	}
	n.host, err = p2p.New(p2p.Config{
		Key: n.key, DataDir: cfg.DataDir, Log: log, Listen: listen,
		Traverse: cfg.Network.Traverse, PortMap: cfg.Network.PortMap, RelayBytes: cfg.Network.RelayBytes,
		Name: cfg.Name, Version: Version, MDNS: cfg.Network.MDNS, Codec: diffupload.Codec{}, Editor: editor{blocks},
		Strangers: n.strangers(), DHT: cfg.Network.DHT, Bootstraps: cfg.Network.Bootstraps,
		UpBytes: cfg.Limits.UpBytes, DownBytes: cfg.Limits.DownBytes, Exchange: cfg.Network.exchange(), Words: n.words, Release: release,
	})
	if err != nil {
		return nil, err
	}
	n.onClose(n.host.Close)
	n.host.SetMetered(cfg.Network.Metered == "yes")
	n.disks = newDisks(n.self, cfg.Paths, n.kit.shows, n.named, cache, log.With("part", "disks"))
	content := &content{self: n.self, store: blocks, blocks: n.host, cache: cache, farm: n.host.Membership(), disks: n.disks, served: map[job.ID]int64{}}
	n.content = content

	if n.audit, err = openAudit(cfg.DataDir, n.about, log); err != nil {
		return nil, err
	}
	n.onClose(n.audit.Close)
	n.jobs, err = dispatch.NewDispatcher(dispatch.Deps{
		Self: n.self, Key: n.key, Kinds: n.kit.planners, Content: content, Market: n.host, Results: content,
		Judge: &judge{croppers: n.kit.croppers, samplers: n.kit.samplers, limits: verify.DefaultThresholds(), canaries: openCanaries(filepath.Join(cfg.DataDir, canariesFile), log)},
		Book:  told{n}, Sink: folderSink{}, Audit: n.audit, Dir: filepath.Join(cfg.DataDir, "dispatch"), Log: log,
	}, dispatch.Options{Checkers: cfg.Check.checkers(), Behind: time.Duration(cfg.Check.Behind * float64(time.Second)), Name: n.called, Remedy: ai.Remedy, Member: n.host.Membership().Known})
	if err != nil {
		return nil, err
	}
	n.onClose(n.jobs.Close)
	if n.trees, err = n.newBlenderTrees(); err != nil {
		return nil, err
	}
	if first == nil {
		n.trees.sweep()
	}
	allowed := newGrants(n.self, blocks, n.jobs.Allows)
	allowed.trees = n.trees.allows
	n.host.ServeBlocks(blocks, allowed, diffupload.Codec{}, content.count)
	n.host.ServeSync(n.jobs)
	n.host.ServeFarmJobs(farmJobs{n})

	earlier, err := loadEarlier(filepath.Join(cfg.DataDir, earlierFile))
	if err != nil {
		log.Warn("what was fetched earlier is forgotten: it will be fetched whole", "error", err)
	}
	n.history = loadHistory(cfg.DataDir, n.self.String(), func() *float64 { return n.owner.energy.today() }, log)
	n.onClose(n.history.write)
	if first != nil {
		n.hooks = first.hooks
	} else if n.hooks, err = n.newHooks(); err != nil {
		return nil, err
	}
	n.worker = worker.New(worker.Deps{
		Self: n.self, Key: n.key,
		Swarm: &swarm{life: n.life, self: n.self, own: n.jobs, host: n.host},
		Assets: &assets{
			self: n.self, store: blocks, blocks: n.host, members: n.members, near: n.near, stranger: n.stranger,
			treeBytes: cfg.Worker.TreeBytes, earlier: earlier, disks: n.disks, apart: !n.kit.confined, log: log.With("part", "assets"),
		},
		Exec:    hooked{remembered{onDisks{inTurn{n.kit.exec, n.turns, func() farmWorker { return n.worker }}, n.disks}, n.history}, n},
		Machine: n.kit.now,
		Dir:     filepath.Join(cfg.DataDir, "worker"), Log: log, Sum: sumFile,
	}, worker.Options{
		Home: n.self, CPU: n.kit.cpu, NoWork: !cfg.Worker.Enabled, Accept: n.accept, TreeBytes: cfg.Worker.TreeBytes,
		Precedence: n.precedence, Stranger: n.stranger, Unfit: n.trees.lacking,
	})
	if n.steward, err = n.newSteward(filepath.Join(cfg.DataDir, "steward")); err != nil {
		return nil, err
	}
	n.closers = append(n.closers, n.steward.Close)
	n.host.ServeAsks(answering{n.worker}, job.MaxAskBytes)
	n.claims = make(chan answerClaim, maxClaims)
	n.asker = &asker{
		self: n.self, key: n.key, cfg: cfg, kind: n.kit.models, store: content, score: book.Score, judge: n.claim, log: log, life: n.life,
		places:   askedPlaces{self: n.self, worker: n.worker, host: n.host, near: n.near, off: !cfg.Worker.Enabled},
		patience: askPatience, room: waitingBytes, models: map[string]*askedModel{}, verdicts: map[string]localapi.AnswerVerdict{},
	}
	if err := n.asker.letGo(ctx, content.Release); err != nil {
		log.Warn("models that were removed stay in the store", "error", err)
	}
	n.turns.add(n.worker)
	if first != nil {
		n.closers = append(n.closers, func() { n.turns.remove(n.worker) })
		n.owner, n.updater = first.owner, first.updater
		n.closers = append(n.closers, n.owner.serve(n.jobs))
		n.words.open()
		return n, nil
	}
	if n.owner, err = n.newOwner(); err != nil {
		return nil, err
	}
	n.owner.serve(n.jobs)
	if n.updater, err = n.newUpdater(); err != nil {
		return nil, err
	}
	if err := n.listenMetrics(); err != nil {
		return nil, err
	}
	n.words.open()
	return n, nil
}

// onClose has a part closed after those that were opened later.
func (n *Node) onClose(f func() error) {
	n.closers = append(n.closers, func() {
		if err := f(); err != nil {
			n.log.Error("shutdown", "error", err)
		}
	})
}

func (n *Node) close() {
	n.end()
	if n.asker != nil {
		n.asker.mu.Lock() // what is under way has begun, and nothing begins after it
		n.asker.mu.Unlock()
		n.asker.runs.Wait()
	}
	for i := len(n.closers) - 1; i >= 0; i-- {
		n.closers[i]()
	}
	n.closers = nil
}

// Run works until ctx ends or a part fails, then shuts down in the order of
// dependence: the door, the worker, the dispatcher, the network, the stores.
// It is called once.
func (n *Node) Run(ctx context.Context) error {
	defer n.close()
	metrics := n.metrics()
	deps := localapi.Deps{
		Jobs: jobs{n.jobs, n}, Views: n.jobs, Machine: machineView{n}, Farm: farmView{n}, Doctor: doctor{n}, Store: storeView{n.blocks}, Version: Version, Log: n.log,
		Previews: previews{jobs: n.jobs, kinds: n.kit.planners, cache: n.content.cache, how: n.content.how, onDisk: n.content.disks.has},
		Records:  records{n},
		Audit:    n.audit,
		Answers:  n.asker,
		Batches:  &batches{dir: filepath.Join(n.cfg.DataDir, "batches"), cfg: n.cfg, jobs: jobs{n.jobs, n}, counts: map[string][2]int{}},
		FarmJobs: farmJobs{n},
		Blenders: n.trees,
		Metrics:  metrics,
		AddOn:    localapi.AddOn{Version: addon.Version(), File: addon.FileName(), Zip: addon.Zip()},
	}
	if n.farms != nil {
		deps.Farms = n.farms
	}
	handler := localapi.New(deps)
	if addon.Version() != Version {
		return fmt.Errorf("this program was built wrong: its add-on is version %s and itself %s", addon.Version(), Version)
	}
	all, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	defer context.AfterFunc(n.again, func() { fail(context.Cause(n.again)) })()
	var door, work, jobs sync.WaitGroup
	run := func(wg *sync.WaitGroup, ctx context.Context, what string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				fail(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	jobsCtx, endJobs := context.WithCancel(context.WithoutCancel(ctx))
	defer endJobs()
	workCtx, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	run(&jobs, jobsCtx, "dispatcher", n.jobs.Run)
	run(&work, workCtx, "worker", n.worker.Run)
	left := &copies{dir: filepath.Join(n.cfg.DataDir, CopiesDir), jobs: n.jobs, log: n.log, read: map[string]bool{}}
	run(&door, all, "copies", left.run)
	run(&door, all, "history", func(ctx context.Context) error { return n.history.watch(ctx, n.jobs) })
	run(&door, all, "Blenders of members", n.trees.run)
	run(&work, workCtx, "stewards", n.steward.Run)
	run(&door, all, "checks of answers", n.checkAnswers)
	run(&door, all, "events for hooks", n.tellHooks)
	if n.first == nil {
		run(&work, workCtx, "idle policy", n.owner.run)
		run(&work, workCtx, "turns", func(ctx context.Context) error { return n.turns.run(ctx, n.owner.devices) })
		run(&door, all, "engines", n.retryEngines)
		run(&door, all, "metrics", func(ctx context.Context) error { return n.serveMetrics(ctx, metrics) })
		run(&door, all, "hooks", n.hooks.Run)
		run(&door, all, "updates", n.updater.run)
		run(&door, all, "further farms", n.farms.run)
	}
	run(&door, all, "local API", func(ctx context.Context) error { return n.door.Serve(ctx, handler) })
	<-all.Done()
	n.log.Info("shutting down")
	door.Wait()
	endWork()
	work.Wait()
	endJobs()
	jobs.Wait()
	if err := context.Cause(all); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// named reports whether a list of ids and names has a member.
func (n *Node) named(list []string, p peer.ID) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		found, err := n.host.Membership().Find(s)
		return s == p.String() || err == nil && found == p
	})
}

// accept says whether this machine takes work of a requester.
func (n *Node) accept(requester peer.ID) error {
	n.reread()
	cfg := n.settings()
	if err := n.acceptStranger(cfg, requester); err != nil {
		return err
	}
	switch only, never := cfg.Worker.OnlyFrom, cfg.Worker.NeverFrom; {
	case n.named(never, requester):
		return errors.New("this machine's owner does not want this member's jobs (worker.never_from)")
	case len(only) > 0 && !n.named(only, requester):
		return errors.New("this machine's owner wants the jobs of others only (worker.only_from)")
	case n.kit.accepts(requester):
		return nil
	}
	return errors.New("this machine has no sandbox that is known to hold, so it runs only its own jobs and those of the peers in sandbox.trusted")
}

// members are all that are known but this machine.
func (n *Node) members() []peer.ID {
	var out []peer.ID
	for _, m := range n.host.Membership().Members() {
		if !m.Self {
			out = append(out, m.Peer)
		}
	}
	return out
}

// called is the name of a member, or the end of its id.
func (n *Node) called(p peer.ID) string {
	for _, m := range n.host.Membership().Members() {
		if m.Peer == p && m.Name != "" {
			return m.Name
		}
	}
	if n.host.Membership().Stranger(p) {
		s := p.String()
		return "stranger " + s[max(0, len(s)-8):]
	}
	s := p.String()
	return s[max(0, len(s)-8):]
}

// near are the members that are connected now.
func (n *Node) near() []peer.ID {
	var out []peer.ID
	for _, p := range n.host.Peers() {
		if p.Connected && !p.Self {
			out = append(out, p.Peer)
		}
	}
	return out
}
