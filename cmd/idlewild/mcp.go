package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/urfave/cli/v2"

	"idlewild/job"
	"idlewild/node"
	"idlewild/node/localapi"
	"idlewild/render/ai"
)

func mcpCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name:  "mcp",
		Usage: "let an assistant use the farm: a Model Context Protocol server on standard input and output",
		Description: "Name it in the assistant's settings as the command `idlewild mcp`. It asks the daemon of this user, and can do\n" +
			"no more than its commands can: inspect, price, submit, status, fetch, cancel.",
	}, 0, 0, func(k *call) error {
		cfg, err := k.farmConfig()
		if err != nil {
			return err
		}
		k.printed = true // what is on stdout is the protocol
		// The end of what is read is the end of the session.
		err = mcpServer(cfg).Run(k.Context.Context, &mcp.IOTransport{Reader: io.NopCloser(k.in), Writer: unclosed{k.out}})
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	})
}

type unclosed struct{ io.Writer }

func (unclosed) Close() error { return nil }

// What an assistant says and is told.
type (
	mcpSpec struct {
		File       string         `json:"file,omitempty" jsonschema:"absolute path of the .blend file, of an AI job's .toml, or of a .jsonl, .csv or folder of pictures that --kind ai takes"`
		Kind       string         `json:"kind,omitempty" jsonschema:"blender, ai or echo; by the file's name where it is left out"`
		Output     string         `json:"output,omitempty" jsonschema:"absolute path of the folder for finished files; needed by submit"`
		Frames     string         `json:"frames,omitempty" jsonschema:"such as 1-250 or 1-250x5,300; those of the file where it is left out"`
		Scene      string         `json:"scene,omitempty" jsonschema:"name of a scene of the file"`
		Camera     string         `json:"camera,omitempty" jsonschema:"name of a camera of the scene"`
		Engine     string         `json:"engine,omitempty" jsonschema:"such as CYCLES"`
		Samples    int            `json:"samples,omitempty" jsonschema:"samples of a pixel"`
		Width      int            `json:"width,omitempty" jsonschema:"pixels"`
		Height     int            `json:"height,omitempty" jsonschema:"pixels"`
		Video      string         `json:"video,omitempty" jsonschema:"h264, h265, av1, prores or none"`
		Model      string         `json:"model,omitempty" jsonschema:"of an AI job: path of an ONNX or GGUF file, or the name of one that was added"`
		Upscale    any            `json:"upscale,omitempty" jsonschema:"of pictures: how many times as large; of frames: the ONNX model that makes them larger, or how many times: a number or text"`
		Recheck    *float64       `json:"recheck,omitempty" jsonschema:"share of the results that is checked, 0 to 1; the farm's own rate where it is left out"`
		Params     map[string]any `json:"params,omitempty" jsonschema:"further settings of the kind; docs/ai.md has those of AI jobs"`
		MissingToo bool           `json:"only_missing,omitempty" jsonschema:"leave out what is in the output folder already"`
	}
	mcpJob struct {
		Job string `json:"job" jsonschema:"the job's name, as submit and status give it"`
	}
	mcpStatusOf struct {
		Job string `json:"job,omitempty" jsonschema:"one job, with its frames and workers; all of them and this machine where it is left out"`
	}
	mcpFetch struct {
		Job    string `json:"job" jsonschema:"the job's name"`
		Output string `json:"output,omitempty" jsonschema:"absolute path of a folder that the files are copied into; they stay where they are where it is left out"`
	}
	mcpSubmitted struct {
		Job     string `json:"job"`
		State   string `json:"state"`
		Reason  string `json:"reason,omitempty"`
		Tasks   int    `json:"tasks" jsonschema:"that end in a file; 0 while the job is planned"`
		Output  string `json:"output"`
		Explain string `json:"explain"`
	}
	mcpPrice struct {
		Tasks         int      `json:"tasks"`
		Skipped       int      `json:"skipped"`
		SizeBytes     int64    `json:"size_bytes"`
		ChangedBytes  int64    `json:"changed_bytes"`
		TaskSeconds   float64  `json:"task_s" jsonschema:"one task on one device; 0 where nothing like it was done yet"`
		DeviceSeconds float64  `json:"device_s" jsonschema:"all tasks, on one device; 0: unknown"`
		LeftSeconds   float64  `json:"left_s" jsonschema:"from submission to the end; 0: unknown"`
		Devices       int      `json:"devices"`
		Basis         string   `json:"basis"`
		Money         float64  `json:"money" jsonschema:"a private farm works for nothing"`
		Problems      []string `json:"problems"`
		Refused       bool     `json:"refused" jsonschema:"it would not begin"`
	}
	mcpInspected struct {
		Files    []string `json:"files" jsonschema:"that the job would take"`
		Facts    any      `json:"facts,omitempty" jsonschema:"what was found in the file"`
		Problems []string `json:"problems"`
		Refused  bool     `json:"refused" jsonschema:"it would not begin"`
	}
	mcpStatus struct {
		Jobs    []mcpJobStatus        `json:"jobs"`
		Machine string                `json:"machine"`
		Paused  string                `json:"paused,omitempty"`
		Members int                   `json:"members"`
		Workers []job.WorkerStatus    `json:"workers,omitempty"`
		Frames  []job.TaskStatus      `json:"frames,omitempty"`
		Devices []localapi.DeviceView `json:"devices"`
	}
	mcpJobStatus struct {
		Job         string  `json:"job"`
		Title       string  `json:"title"`
		State       string  `json:"state"`
		Reason      string  `json:"reason,omitempty"`
		Tasks       int     `json:"tasks"`
		Delivered   int     `json:"delivered"`
		Running     int     `json:"running"`
		Failed      int     `json:"failed"`
		Rejected    int     `json:"rejected"`
		LeftSeconds float64 `json:"left_s,omitempty"`
		Output      string  `json:"output,omitempty"`
	}
)

// mcpServer has a tool for each thing that an assistant may do. Each call asks
// the daemon anew: it may come and go.
func mcpServer(cfg node.Config) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "idlewild", Title: "idlewild render farm", Version: node.Version}, &mcp.ServerOptions{
		Instructions: "A private farm of idle machines that renders Blender files and runs AI models on many items. " +
			"Look at a job with inspect and price before submit; status shows how far it is, fetch where its files are.",
	})
	looks, makes, ends := &mcp.ToolAnnotations{ReadOnlyHint: true}, &mcp.ToolAnnotations{DestructiveHint: new(bool)}, &mcp.ToolAnnotations{}
	tool(s, cfg, "inspect", "What a job would take and what is wrong with it. Nothing is stored.", looks, mcpInspect)
	tool(s, cfg, "price", "What a job would cost in time of devices and in bytes, and when it would be done.", looks, mcpEstimate)
	tool(s, cfg, "submit", "Give a job to the farm. It goes on by itself.", makes, mcpSubmit)
	tool(s, cfg, "status", "How far the jobs are, or one of them, and what this machine and the farm do.", looks, mcpShow)
	tool(s, cfg, "fetch", "The files of a job that were delivered so far; they can be copied elsewhere.", makes, mcpFiles)
	tool(s, cfg, "cancel", "End a job. What was delivered stays.", ends, mcpCancel)
	return s
}

func tool[In, Out any](s *mcp.Server, cfg node.Config, name, what string, how *mcp.ToolAnnotations, do func(context.Context, *localapi.Client, node.Config, In) (Out, error)) {
	mcp.AddTool(s, &mcp.Tool{Name: name, Description: what, Annotations: how}, func(ctx context.Context, _ *mcp.CallToolRequest, in In) (*mcp.CallToolResult, Out, error) {
		var none Out
		client, err := localapi.Dial(cfg.DataDir)
		if err != nil {
			return nil, none, err
		}
		defer client.Close()
		out, err := do(ctx, client, cfg, in)
		return nil, out, err
	})
}

func (m mcpSpec) spec(cfg node.Config, needOutput bool) (job.Spec, error) {
	for what, path := range map[string]string{"file": m.File, "output": m.Output} {
		// The server's own folder is nobody's business.
		if path != "" && !filepath.IsAbs(path) {
			return job.Spec{}, job.Refuse(what, fmt.Sprintf("%q is no absolute path", path), "name it from the root on")
		}
	}
	if needOutput && m.Output == "" {
		return job.Spec{}, job.Refuse("output", "no folder is named for finished files", "name one")
	}
	var params json.RawMessage
	if len(m.Params) > 0 {
		var err error
		if params, err = json.Marshal(m.Params); err != nil {
			return job.Spec{}, err
		}
	}
	upscale := ""
	switch v := m.Upscale.(type) {
	case nil:
	case string:
		upscale = v
	case float64: // as it was before models of frames
		upscale = strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return job.Spec{}, job.Refuse("upscale", "it is neither a number nor text", "say how many times as large, or the model")
	}
	for what, model := range map[string]string{"model": m.Model, "upscale": upscale} {
		if ai.IsPath(model) && !filepath.IsAbs(model) {
			return job.Spec{}, job.Refuse(what, fmt.Sprintf("%q is no absolute path", model), "name it from the root on, or by the name that it was added as")
		}
	}
	return node.SpecFor(m.File, node.SpecOptions{
		Params: params,
		Kind:   m.Kind, Output: m.Output, Frames: m.Frames, Scene: m.Scene, Camera: m.Camera, Engine: m.Engine, Samples: m.Samples,
		Width: m.Width, Height: m.Height, Video: m.Video, Model: m.Model, Upscale: upscale, Recheck: m.Recheck, OnlyMissing: m.MissingToo, Config: cfg,
	})
}

// said are problems in words, and whether one of them is a reason not to begin.
func said(problems []job.Problem) (out []string, refused bool) {
	out = []string{}
	for _, p := range problems {
		text := p.String()
		if p.Severity != job.SeverityError {
			text = "warning: " + text
		}
		out, refused = append(out, text), refused || p.Severity == job.SeverityError
	}
	return out, refused
}

func mcpInspect(ctx context.Context, c *localapi.Client, cfg node.Config, in mcpSpec) (out mcpInspected, err error) {
	s, err := in.spec(cfg, false)
	if err != nil {
		return out, err
	}
	found, err := c.Inspect(ctx, s)
	if err != nil {
		return out, err
	}
	out.Files = []string{}
	for _, d := range found.Deps {
		out.Files = append(out.Files, d.Path)
	}
	if len(found.Facts) > 0 && len(found.Facts) < 64<<10 {
		out.Facts = found.Facts
	}
	out.Problems, out.Refused = said(found.Problems)
	return out, nil
}

func mcpEstimate(ctx context.Context, c *localapi.Client, cfg node.Config, in mcpSpec) (out mcpPrice, err error) {
	s, err := in.spec(cfg, false)
	if err != nil {
		return out, err
	}
	e, err := c.Estimate(ctx, s)
	if err != nil {
		return out, err
	}
	out = mcpPrice{
		Tasks: e.Tasks, Skipped: e.Skipped, SizeBytes: e.SizeBytes, ChangedBytes: e.ChangedBytes, TaskSeconds: e.TaskSeconds,
		DeviceSeconds: e.TaskSeconds * float64(e.Tasks-e.Skipped), LeftSeconds: e.LeftSeconds, Devices: e.Devices, Basis: e.Basis,
	}
	out.Problems, out.Refused = said(e.Problems)
	return out, nil
}

// planWait is how long submit waits for the job to be planned, so that what is
// wrong with it is in its answer.
const planWait = 20 * time.Second

func mcpSubmit(ctx context.Context, c *localapi.Client, cfg node.Config, in mcpSpec) (out mcpSubmitted, err error) {
	s, err := in.spec(cfg, true)
	if err != nil {
		return out, err
	}
	id, err := c.Submit(ctx, s)
	if err != nil {
		return out, err
	}
	wait, cancel := context.WithTimeout(ctx, planWait)
	defer cancel()
	now, err := follow(wait, cfg.DataDir, id, noView{}, func(s job.Status) bool { return s.State != job.StateAccepted })
	if err != nil && wait.Err() == nil {
		return out, err
	}
	if now.Job == "" {
		now = job.Status{Job: id, State: job.StateAccepted, Output: s.Output}
	}
	if err := outcome(now); now.State.Ended() && err != nil {
		return out, fmt.Errorf("job %s: %w", id, err)
	}
	return mcpSubmitted{
		Job: string(id), State: string(now.State), Reason: now.Reason, Tasks: now.Tasks, Output: now.Output,
		Explain: "It goes on by itself; ask status how far it is.",
	}, nil
}

func mcpShow(ctx context.Context, c *localapi.Client, _ node.Config, in mcpStatusOf) (out mcpStatus, err error) {
	v, err := c.Status(ctx)
	if err != nil {
		return out, err
	}
	out = mcpStatus{Jobs: []mcpJobStatus{}, Machine: v.Machine.Name, Paused: v.Machine.Paused, Members: len(v.Farm.Members), Devices: v.Machine.Devices}
	if out.Devices == nil {
		out.Devices = []localapi.DeviceView{}
	}
	var jobs []job.Status
	if in.Job == "" {
		jobs, err = c.Jobs(ctx)
	} else if id, perr := job.ParseID(in.Job); perr != nil {
		err = perr
	} else {
		var s job.Status
		s, err = c.Job(ctx, id)
		jobs = []job.Status{s}
		out.Workers = s.Workers
		out.Frames = s.Frames[:min(len(s.Frames), mostFrames)]
	}
	if err != nil {
		return out, err
	}
	for _, s := range jobs[:min(len(jobs), mostJobs)] {
		out.Jobs = append(out.Jobs, mcpJobStatus{
			Job: string(s.Job), Title: s.Title, State: string(s.State), Reason: s.Reason, Tasks: s.Tasks, Delivered: s.Delivered,
			Running: s.Running, Failed: s.FailedN, Rejected: s.Rejected, LeftSeconds: s.LeftSeconds, Output: s.Output,
		})
	}
	return out, nil
}

// An assistant reads what it is told: not more than this of it.
const (
	mostJobs   = 50
	mostFrames = 200
)

func mcpFiles(ctx context.Context, c *localapi.Client, _ node.Config, in mcpFetch) (out fetchDoc, err error) {
	id, err := job.ParseID(in.Job)
	if err != nil {
		return out, err
	}
	if in.Output != "" && !filepath.IsAbs(in.Output) {
		return out, job.Refuse("output", fmt.Sprintf("%q is no absolute path", in.Output), "name it from the root on")
	}
	s, err := c.Job(ctx, id)
	if err != nil {
		return out, err
	}
	return delivered(s, in.Output)
}

func mcpCancel(ctx context.Context, c *localapi.Client, _ node.Config, in mcpJob) (out mcpJobStatus, err error) {
	id, err := job.ParseID(in.Job)
	if err != nil {
		return out, err
	}
	s, err := c.Steer(ctx, id, job.Cancel)
	return mcpJobStatus{Job: string(id), Title: s.Title, State: string(s.State), Reason: s.Reason, Tasks: s.Tasks, Delivered: s.Delivered, Output: s.Output}, err
}
