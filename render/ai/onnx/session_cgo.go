//go:build cgo

package onnx

import (
	"fmt"
	"runtime"
	"strings"
	"sync"

	ort "github.com/yalue/onnxruntime_go"
)

// environment is the library, once loaded; it stays.
var environment struct {
	sync.Mutex
	library   string
	providers []string
}

// Runtime loads the library and says which it is, and the sorts of device that
// it works on: "cpu" and what there is for GPUs, best first.
func Runtime(library string) (version string, providers []string, err error) {
	environment.Lock()
	defer environment.Unlock()
	if ort.IsInitialized() {
		if library != environment.library {
			return "", nil, fmt.Errorf("another onnxruntime is in use: %s", environment.library)
		}
		return ort.GetVersion(), environment.providers, nil
	}
	ort.SetSharedLibraryPath(library)
	if err := ort.InitializeEnvironment(ort.WithLogLevelError()); err != nil {
		return "", nil, fmt.Errorf("onnxruntime in %s cannot be used (needs 1.%d or newer): %w", library, OldestLibrary, err)
	}
	environment.library = library
	for _, p := range gpuProviders {
		o, err := ort.NewSessionOptions()
		if err != nil {
			return "", nil, err
		}
		if p.runs(runtime.GOOS) && p.add(o, "") == nil {
			environment.providers = append(environment.providers, p.name)
		}
		o.Destroy()
	}
	environment.providers = append(environment.providers, cpuProvider)
	return ort.GetVersion(), environment.providers, nil
}

const cpuProvider = "cpu"

// provider is a way to compute on a GPU.
type provider struct {
	name    string
	systems []string
	add     func(o *ort.SessionOptions, device string) error
}

func (p provider) runs(system string) bool {
	for _, s := range p.systems {
		if s == system {
			return true
		}
	}
	return false
}

// gpuProviders, best first. TensorRT compiles each model for minutes, so it
// comes after CUDA: it is there for libraries without that.
var gpuProviders = []provider{
	{"cuda", []string{"linux", "windows"}, func(o *ort.SessionOptions, device string) error {
		c, err := ort.NewCUDAProviderOptions()
		if err != nil {
			return err
		}
		defer c.Destroy()
		// Shortened products would make results of GPUs another model's.
		options := map[string]string{"use_tf32": "0"}
		if device != "" {
			options["device_id"] = device
		}
		if err := c.Update(options); err != nil {
			return err
		}
		return o.AppendExecutionProviderCUDA(c)
	}},
	{"tensorrt", []string{"linux", "windows"}, func(o *ort.SessionOptions, device string) error {
		c, err := ort.NewTensorRTProviderOptions()
		if err != nil {
			return err
		}
		defer c.Destroy()
		if device != "" {
			if err := c.Update(map[string]string{"device_id": device}); err != nil {
				return err
			}
		}
		return o.AppendExecutionProviderTensorRT(c)
	}},
	{"directml", []string{"windows"}, func(o *ort.SessionOptions, _ string) error {
		return o.AppendExecutionProviderDirectML(0)
	}},
	{"coreml", []string{"darwin"}, func(o *ort.SessionOptions, _ string) error {
		return o.AppendExecutionProviderCoreMLV2(nil)
	}},
}

// Session is a model in the runtime. It is not safe for concurrent use.
type Session struct {
	Model   *Model
	session *ort.DynamicAdvancedSession
	device  string
	in      []Value
	out     []string
}

// Open loads a model. What the runtime says of one that it cannot load is in
// the error.
func Open(library, file string, o Options) (_ *Session, err error) {
	m, err := Read(file)
	if err != nil {
		return nil, err
	}
	_, providers, err := Runtime(library)
	if err != nil {
		return nil, err
	}
	opts, err := ort.NewSessionOptions()
	if err != nil {
		return nil, err
	}
	defer opts.Destroy()
	if o.Threads > 0 {
		if err := opts.SetIntraOpNumThreads(o.Threads); err != nil {
			return nil, err
		}
	}
	// Memory of the largest batch would be kept for ever.
	if err := opts.SetCpuMemArena(false); err != nil {
		return nil, err
	}
	s := &Session{Model: m, device: cpuProvider}
	if o.GPU {
		if s.device, err = addGPU(opts, providers, o.Device); err != nil {
			return nil, err
		}
	}
	names := make([]string, len(m.Inputs))
	for i, v := range m.Inputs {
		names[i] = v.Name
	}
	for _, v := range m.Outputs {
		s.out = append(s.out, v.Name)
	}
	s.in = m.Inputs
	if s.session, err = ort.NewDynamicAdvancedSession(file, names, s.out, opts); err != nil {
		return nil, fmt.Errorf("onnxruntime %s cannot load it: %s", ort.GetVersion(), plain(err))
	}
	return s, nil
}

func addGPU(opts *ort.SessionOptions, providers []string, device string) (string, error) {
	for _, p := range gpuProviders {
		for _, name := range providers {
			if name == p.name {
				if err := p.add(opts, device); err != nil {
					return "", fmt.Errorf("%s: %s", p.name, plain(err))
				}
				return "gpu " + p.name, nil
			}
		}
	}
	return "", fmt.Errorf("this onnxruntime works on no GPU: it has %s", strings.Join(providers, ", "))
}

// plain is what onnxruntime says, without what it puts around it.
func plain(err error) string {
	s := err.Error()
	for _, prefix := range []string{"Error creating session: ", "Error running network: "} {
		s = strings.TrimPrefix(s, prefix)
	}
	return strings.Join(strings.Fields(s), " ")
}

// Device that the session works on: "cpu", or "gpu" and how.
func (s *Session) Device() string { return s.device }

// Close gives up the model's memory.
func (s *Session) Close() error { return s.session.Destroy() }

// Run gives the model its inputs, by name, and returns the outputs asked for,
// or all of them in the model's order.
func (s *Session) Run(inputs map[string]Tensor, outputs []string) ([]Tensor, error) {
	in := make([]ort.Value, len(s.in))
	defer func() {
		for _, v := range in {
			if v != nil {
				v.Destroy()
			}
		}
	}()
	for i, v := range s.in {
		t, ok := inputs[v.Name]
		if !ok {
			return nil, fmt.Errorf("input %s is not given", v.Name)
		}
		if err := v.check(t); err != nil {
			return nil, err
		}
		var err error
		if in[i], err = value(v, t); err != nil {
			return nil, fmt.Errorf("input %s: %w", v.Name, err)
		}
	}
	out := make([]ort.Value, len(s.out))
	defer func() {
		for _, v := range out {
			if v != nil {
				v.Destroy()
			}
		}
	}()
	if err := s.session.Run(in, out); err != nil {
		return nil, fmt.Errorf("%s", plain(err))
	}
	if len(outputs) == 0 {
		outputs = s.out
	}
	var result []Tensor
	for _, name := range outputs {
		i := 0
		for i < len(s.out) && s.out[i] != name {
			i++
		}
		if i == len(s.out) {
			return nil, fmt.Errorf("the model has no output %s", name)
		}
		t, err := tensorOf(out[i])
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", name, err)
		}
		result = append(result, t)
	}
	return result, nil
}

func value(v Value, t Tensor) (ort.Value, error) {
	shape := ort.NewShape(t.Shape...)
	switch v.Type {
	case Float32:
		if t.F32 != nil {
			return ort.NewTensor(shape, t.F32)
		}
		return converted[float32](shape, t)
	case Float64:
		return converted[float64](shape, t)
	case Int64:
		return converted[int64](shape, t)
	case Int32:
		return converted[int32](shape, t)
	case Uint8:
		return converted[uint8](shape, t)
	case Int8:
		return converted[int8](shape, t)
	case Bool:
		data := make([]bool, len(t.Data))
		for i, x := range t.Floats() {
			data[i] = x != 0
		}
		return ort.NewTensor(shape, data)
	case String:
		s, err := ort.NewStringTensor(shape)
		if err != nil {
			return nil, err
		}
		if err := s.SetContents(t.Text); err != nil {
			s.Destroy()
			return nil, err
		}
		return s, nil
	}
	return nil, fmt.Errorf("it is of %s, which cannot be given here; export the model with 32-bit inputs", v.Type)
}

func converted[T float32 | float64 | int64 | int32 | uint8 | int8](shape ort.Shape, t Tensor) (ort.Value, error) {
	floats := t.Floats()
	data := make([]T, len(floats))
	for i, x := range floats {
		data[i] = T(x)
	}
	return ort.NewTensor(shape, data)
}

func tensorOf(v ort.Value) (Tensor, error) {
	t := Tensor{Shape: v.GetShape()}
	switch v := v.(type) {
	case *ort.Tensor[float32]:
		t.F32 = append(make([]float32, 0, len(v.GetData())), v.GetData()...)
	case *ort.Tensor[float64]:
		t.Data = numbers(v.GetData())
	case *ort.Tensor[int64]:
		t.Data = numbers(v.GetData())
	case *ort.Tensor[int32]:
		t.Data = numbers(v.GetData())
	case *ort.Tensor[uint8]:
		t.Data = numbers(v.GetData())
	case *ort.Tensor[int8]:
		t.Data = numbers(v.GetData())
	case *ort.Tensor[bool]:
		t.Data = make([]float64, len(v.GetData()))
		for i, x := range v.GetData() {
			if x {
				t.Data[i] = 1
			}
		}
	case *ort.StringTensor:
		text, err := v.GetContents()
		if err != nil {
			return t, err
		}
		t.Text = text
	default:
		return t, fmt.Errorf("it is of a type that is not read here; export the model with 32-bit outputs")
	}
	return t, nil
}

func numbers[T float64 | int64 | int32 | uint8 | int8](in []T) []float64 {
	out := make([]float64, len(in))
	for i, x := range in {
		out[i] = float64(x)
	}
	return out
}
