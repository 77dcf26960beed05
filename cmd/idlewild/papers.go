package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

// bashCompletion asks the program itself, which prints what can come next.
const bashCompletion = `# Completion of idlewild for bash.
_idlewild() {
  local cur=${COMP_WORDS[COMP_CWORD]} words
  words=$("${COMP_WORDS[@]:0:COMP_CWORD}" ${cur:+"$cur"} --generate-bash-completion 2>/dev/null)
  [[ $cur == -* ]] || words=$("${COMP_WORDS[@]:0:COMP_CWORD}" --generate-bash-completion 2>/dev/null)
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o bashdefault -o default -F _idlewild idlewild
`

const zshCompletion = `#compdef idlewild
# Completion of idlewild for zsh.
local -a found
local cur=${words[-1]}
if [[ $cur == -* ]]; then
  found=("${(@f)$(${words[@]:0:#words[@]-1} ${cur} --generate-bash-completion 2>/dev/null)}")
else
  found=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
fi
[[ -n ${found[1]} ]] && _describe 'command' found || _files
`

// papersCommand writes what a package has beside the program; scripts/package
// calls it.
func papersCommand(p *program) *cli.Command {
	return command(p, &cli.Command{
		Name: "papers", Hidden: true, ArgsUsage: "DIR",
		Usage: "write the manual page and shell completions into DIR",
	}, 1, 1, func(k *call) error {
		man, err := k.App.ToMan()
		if err != nil {
			return err
		}
		fish, err := k.App.ToFishCompletion()
		if err != nil {
			return err
		}
		dir := k.Args().First()
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for name, text := range map[string]string{
			"idlewild.1": man, "idlewild.fish": fish, "idlewild.bash": bashCompletion, "_idlewild": zshCompletion,
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.TrimSuffix(text, "\n")+"\n"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
}
