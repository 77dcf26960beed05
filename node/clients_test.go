package node

import (
	"os"
	"os/exec"
	"testing"

	"idlewild/render/ai/torch/torchtest"
)

// The official clients work unchanged: make clients fetches them.
func TestOpenAIsClients(t *testing.T) {
	python, modules := os.Getenv("IDLEWILD_TEST_OPENAI_PYTHON"), os.Getenv("IDLEWILD_TEST_OPENAI_NODE")
	if python == "" && modules == "" {
		t.Skip("NOT RUN: make clients fetches OpenAI's clients")
	}
	n := startNode(t, "one", func(c *Config) {
		answering1(aiConfig(t))(c)
		c.LLM.Server, c.Torch.Python = os.Getenv("IDLEWILD_LLM_SERVER"), os.Getenv("IDLEWILD_TORCH_PYTHON")
	})
	addEmbedder(t, n.cfg)
	writes := "embeds"
	if n.cfg.LLM.Server != "" {
		addWriter(t, n.cfg)
		writes = "writes"
	}
	if n.cfg.Torch.Python != "" {
		addTiny(t, n.cfg, torchtest.Make(t))
	}
	d := doorOf(t, n)
	run := func(name string, args ...string) {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
	if python != "" {
		run("python", python, "testdata/openai_client.py", d.base+"/v1", d.token, writes)
	}
	if modules != "" {
		run("javascript", "node", "testdata/openai_client.mjs", modules, d.base+"/v1", d.token, writes)
	}
}
