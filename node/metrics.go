package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"idlewild/job"
)

// metrics are this daemon for Prometheus. Everything is asked when somebody
// asks, so that an idle daemon does nothing for it. Names of files, people
// and members are in none of them.
func (n *Node) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), collector{n})
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{Timeout: 10 * time.Second, MaxRequestsInFlight: 2})
}

// collector reads what the daemon knows.
type collector struct{ n *Node }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("idlewild_"+name, help, labels, nil)
}

var (
	descInfo      = desc("info", "Always 1; the labels say what runs.", "version", "sandbox")
	descJobs      = desc("jobs", "Jobs of this machine that are remembered, by state.", "state")
	descTasks     = desc("job_tasks", "Tasks of open jobs that end in a delivered file, by state.", "state")
	descResults   = desc("job_results", "Checked results of remembered jobs, by verdict.", "verdict")
	descMoved     = desc("job_bytes", "Bytes that crossed the network for remembered jobs: content to workers, and results to here.", "direction")
	descDone      = desc("done_tasks_total", "Tasks that this machine did, for others and of its own jobs, and those for others that it did not do.", "for")
	descSeconds   = desc("done_seconds_total", "Device time of them, in seconds.", "for")
	descDelivered = desc("delivered_total", "Tasks of this machine's jobs that were delivered.")
	descEnergy    = desc("gpu_energy_joules_total", "What GPUs drew while they worked for others.")
	descDevice    = desc("device_level", "What a device may do for others: 0 stop, 1 leave, 2 share, 3 free.", "device", "signal")
	descBusy      = desc("device_busy", "1 where a task runs on the device.", "device")
	descTemp      = desc("gpu_temperature_celsius", "Of a GPU, where its driver tells.", "device")
	descPower     = desc("gpu_power_watts", "Of a GPU, where its driver tells.", "device")
	descPeers     = desc("members", "Members of the farm, by how they are reached; away where they are not.", "path")
	descStore     = desc("store_bytes", "Blocks in the store: their size, and that of the files.", "what")
	descPaused    = desc("paused", "1 while its owner has paused work for others.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descInfo, descJobs, descTasks, descResults, descMoved, descDone, descSeconds, descDelivered, descEnergy,
		descDevice, descBusy, descTemp, descPower, descPeers, descStore, descPaused,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	n := c.n
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	sandbox, _, _ := strings.Cut(n.kit.sandbox, ":")
	gauge(descInfo, 1, Version, sandbox)

	states := map[job.State]int{
		job.StateAccepted: 0, job.StatePlanned: 0, job.StatePaused: 0, job.StateFinished: 0, job.StateFailed: 0, job.StateCancelled: 0,
	}
	var open, all job.Status
	for _, s := range n.jobs.List() {
		states[s.State]++
		if !s.State.Ended() {
			open.Delivered += s.Delivered
			open.Running += s.Running
			open.Waiting += s.Waiting
			open.FailedN += s.FailedN
		}
		all.Accepted += s.Accepted
		all.Rejected += s.Rejected
		all.Unsure += s.Unsure
		all.UploadedBytes += s.UploadedBytes
		all.ResultBytes += s.ResultBytes
	}
	for s, k := range states {
		gauge(descJobs, float64(k), string(s))
	}
	gauge(descTasks, float64(open.Delivered), "delivered")
	gauge(descTasks, float64(open.Running), "running")
	gauge(descTasks, float64(open.Waiting), "waiting")
	gauge(descTasks, float64(open.FailedN), "failed")
	gauge(descResults, float64(all.Accepted), "accepted")
	gauge(descResults, float64(all.Rejected), "rejected")
	gauge(descResults, float64(all.Unsure), "unsure")
	gauge(descMoved, float64(all.UploadedBytes), "content")
	gauge(descMoved, float64(all.ResultBytes), "results")

	t := n.history.view(1).Total
	counter(descDone, float64(t.OthersTasks), "others")
	counter(descDone, float64(t.OwnHere), "own")
	counter(descDone, float64(t.OthersFailed), "others_not_done")
	counter(descSeconds, t.OthersSeconds, "others")
	counter(descSeconds, t.OwnSeconds, "own")
	counter(descDelivered, float64(t.OwnDelivered))
	counter(descEnergy, t.GPUWattHours*3600)

	decisions, signals, _ := n.owner.view()
	for _, d := range n.kit.machine.Devices {
		x := decisions[d.Name]
		gauge(descDevice, float64(x.Level), d.Name, x.Signal)
		gauge(descBusy, oneIf(n.kit.yielding.runs(d.Name)), d.Name)
		g := signals.GPUs[d.Name]
		if g.TempC != nil {
			gauge(descTemp, *g.TempC, d.Name)
		}
		if g.PowerW != nil {
			gauge(descPower, *g.PowerW, d.Name)
		}
	}
	gauge(descBusy, oneIf(n.worker.Running(job.HomeDevice)), job.HomeDevice)

	paths := map[string]int{"away": 0}
	for _, p := range n.host.Peers() {
		switch {
		case p.Self:
		case p.Connected:
			paths[string(p.Path)]++
		default:
			paths["away"]++
		}
	}
	for p, k := range paths {
		gauge(descPeers, float64(k), p)
	}
	st := n.blocks.Stat()
	gauge(descStore, float64(st.Bytes), "blocks")
	gauge(descStore, float64(st.DiskBytes), "disk")
	gauge(descPaused, oneIf(n.owner.paused() != ""))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// serveMetrics answers Prometheus at metrics.address, without a token, until
// ctx ends.
func (n *Node) serveMetrics(ctx context.Context, h http.Handler) error {
	if n.metricsAt == nil {
		<-ctx.Done()
		return nil
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", h)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10}
	end := context.AfterFunc(ctx, func() { srv.Close() })
	defer end()
	if err := srv.Serve(n.metricsAt); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// listenMetrics opens metrics.address, if it is set.
func (n *Node) listenMetrics() error {
	if n.cfg.Metrics.Address == "" {
		return nil
	}
	l, err := net.Listen("tcp", n.cfg.Metrics.Address)
	if err != nil {
		return fmt.Errorf("metrics.address: %w", err)
	}
	n.metricsAt = l
	n.closers = append(n.closers, func() { l.Close() }) // closed already where it was served, which is as good
	n.log.Info("metrics without a token", "address", l.Addr())
	return nil
}
