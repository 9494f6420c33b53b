package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCompletions: the scripts that packages ship, in the shells they are for: what is typed, and
// what the key Tab makes of it, with the names of a daemon.
func TestCompletions(t *testing.T) {
	_, address, end, err := newDaemon(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	t.Setenv("PANNIER_ADMIN", address)
	typed := map[string]string{
		"pannier sen":                 "pannier send",
		"pannier receipt ver":         "pannier receipt verify",
		"pannier receipt verify --fi": "pannier receipt verify --file",
		"pannier ls --state INE":      "pannier ls --state INERROR",
		"pannier ls --partner th":     "pannier ls --partner there",
		"pannier ls --rule clo":       "pannier ls --rule closed",
		"pannier partner test fa":     "pannier partner test far",
		"pannier send x --rule oth":   "pannier send x --rule other",
	}
	for shell, in := range map[string]struct{ file, script string }{
		"bash": {"pannier", bashTab},
		"fish": {"pannier.fish", fishTab},
		"zsh":  {"_pannier", zshTab},
	} {
		t.Run(shell, func(t *testing.T) {
			program := systemProgram(t, shell, shell)
			if _, err := os.Stat(bashFunctions); shell == "bash" && err != nil {
				t.Skip("there is no package bash-completion, so nothing is completed in bash")
			}
			dir := t.TempDir()
			file, script := filepath.Join(dir, in.file), filepath.Join(dir, "tab")
			for path, text := range map[string]string{file: runs(t, "pannier", "completion", shell), script: in.script} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for before, after := range typed {
				if got := strings.TrimRight(runs(t, program, script, file, before), " \n"); got != after {
					t.Errorf("%q becomes %q, want %q", before, got, after)
				}
			}
		})
	}
}

// bashFunctions are of the package bash-completion, which whoever has completions has.
const bashFunctions = "/usr/share/bash-completion/bash_completion"

// Scripts with the arguments: file of the completion, what is typed.
const (
	bashTab = `. ` + bashFunctions + `
. "$1"
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9
read -ra COMP_WORDS <<<"$2"
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
complete -p pannier >/dev/null || exit
__start_pannier pannier "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
[ ${#COMPREPLY[@]} = 1 ] || { declare -p COMPREPLY; exit; }
echo "${2% *} ${COMPREPLY[0]}"
`
	fishTab = `source $argv[1]
set words (string split " " -- $argv[2])
echo $words[1..-2] (complete -C $argv[2] | string split -f 1 \t)
`
	// A shell with a terminal of its own, whose Tab is pressed.
	zshTab = `zmodload zsh/zpty
dir=${1:h}
rm -f $dir/ready $dir/line
zpty shell zsh -f -i
zpty -w shell "fpath=($dir \$fpath); autoload -Uz compinit; compinit -u -d $dir/dump; bindkey '^I' complete-word; show() { print -r -- \$BUFFER >$dir/part; mv $dir/part $dir/line }; zle -N show; bindkey '^X' show; : >$dir/ready"
wait() { for i in {1..600}; do [[ -e $1 ]] && return; sleep 0.1; done; exit 1 }
wait $dir/ready
zpty -w -n shell $2$'\t\x18'
wait $dir/line
cat $dir/line
zpty -d shell
`
)
