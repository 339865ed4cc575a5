package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vita/mgmt/operator"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh" help:"bash or zsh."`
}

// A shell hands over the line up to the cursor and gets back what can stand in
// the place of its last word. What ends in a blank is finished.
var completion = map[string]string{
	"bash": `# bash completion for vitactl: source <(vitactl completion bash)
_vitactl() {
	local IFS=$'\n'
	COMPREPLY=($(vitactl complete-line --shell bash -- "${COMP_LINE:0:$COMP_POINT}" 2>/dev/null))
}
complete -o nospace -F _vitactl vitactl
`,
	"zsh": `#compdef vitactl
# zsh completion for vitactl: source <(vitactl completion zsh), after compinit
_vitactl() {
	local -a all
	all=("${(@f)$(vitactl complete-line --shell zsh -- "$LBUFFER" 2>/dev/null)}")
	compadd -S '' -- ${all:#* }
	compadd -S ' ' -- ${${(M)all:#* }% }
}
(( $+functions[compdef] )) && compdef _vitactl vitactl
`,
}

func (c *completionCmd) Run() error {
	fmt.Print(completion[c.Shell])
	return nil
}

type completeLineCmd struct {
	Shell string `enum:"bash,zsh" default:"bash"`
	Line  string `arg:""`
}

// completeTime bounds how long a gateway is waited for while somebody types.
const completeTime = 2 * time.Second

func (c *completeLineCmd) Run(s *session) error {
	words := operator.Words(c.Line)
	if len(words) < 2 {
		return nil
	}
	ctx, cancel := context.WithTimeout(s, completeTime)
	defer cancel()
	last := words[len(words)-1]
	for _, text := range s.complete(ctx, words[1:len(words)-1], last) {
		if c.Shell == "bash" { // which takes a word apart at these, and replaces the last part
			text = text[strings.LastIndexAny(last, "=:")+1:]
		}
		fmt.Println(text)
	}
	return nil
}

// complete returns what a word can become that follows others.
func (s *session) complete(ctx context.Context, before []string, word string) []string {
	var own cli
	parser, err := kong.New(&own, kong.Name("vitactl"))
	if err != nil {
		return nil
	}
	node := parser.Model.Node
	given := []string{} // arguments of the command
	var pending *kong.Flag
	for _, w := range before {
		switch {
		case pending != nil:
			pending = nil
		case strings.HasPrefix(w, "-"):
			name, _, valued := strings.Cut(strings.TrimLeft(w, "-"), "=")
			if f := flagOf(node, name); f != nil && !f.IsBool() && !valued {
				pending = f
			}
		default:
			i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == w })
			if i >= 0 {
				node = node.Children[i]
			} else {
				given = append(given, w)
			}
		}
	}
	c := operator.Completer{Client: s.quiet()}
	switch {
	case pending != nil:
		return s.values(ctx, c, pending.Value, nil, word)
	case strings.HasPrefix(word, "-"):
		return flags(node, word)
	case len(node.Children) > 0:
		var out []string
		for _, n := range node.Children {
			if strings.HasPrefix(n.Name, word) && !n.Hidden {
				out = append(out, n.Name+" ")
			}
		}
		return out
	case len(node.Positional) == 0:
		return nil
	}
	p := node.Positional[min(len(given), len(node.Positional)-1)]
	if len(given) >= len(node.Positional) && !p.IsCumulative() {
		return nil
	}
	return s.values(ctx, c, p, given, word)
}

func flagOf(node *kong.Node, name string) *kong.Flag {
	for _, group := range node.AllFlags(false) {
		for _, f := range group {
			if f.Name == name || f.Short != 0 && string(f.Short) == name {
				return f
			}
		}
	}
	return nil
}

func flags(node *kong.Node, word string) []string {
	var out []string
	for _, group := range node.AllFlags(true) {
		for _, f := range group {
			if text := "--" + f.Name; strings.HasPrefix(text, word) {
				if f.IsBool() {
					text += " "
				} else {
					text += "="
				}
				out = append(out, text)
			}
		}
	}
	slices.Sort(out)
	return out
}

// values completes the value of a flag or argument, by what it is said to be.
func (s *session) values(ctx context.Context, c operator.Completer, v *kong.Value, given []string, word string) []string {
	tables, _ := operator.Tables()
	words := func(all []string) []string {
		var out []string
		for _, w := range all {
			if strings.HasPrefix(w, word) {
				out = append(out, w+" ")
			}
		}
		return out
	}
	switch kind := v.Tag.Get("complete"); {
	case kind == "path", kind == "pairs" && len(given)%2 == 0:
		return c.Path(ctx, word)
	case kind == "pairs":
		return c.Value(given[len(given)-1], word)
	case kind == "state" && strings.HasPrefix(word, "/"):
		c.State = true
		return c.Path(ctx, word)
	case kind == "state", kind == "table":
		return words(tables)
	case kind == "route":
		return c.Routes(ctx, word)
	case kind == "file":
		return files(word)
	case v.Enum != "":
		return words(strings.Split(v.Enum, ","))
	}
	return nil
}

func files(word string) []string {
	all, err := filepath.Glob(word + "*") // a word with wildcards finds what they stand for
	if err != nil {
		return nil
	}
	for i, f := range all {
		if info, err := os.Stat(f); err == nil && info.IsDir() {
			all[i] += "/"
		} else {
			all[i] += " "
		}
	}
	return all
}

// quiet returns a client that asks nothing of whoever types, or nil.
func (s *session) quiet() *operator.Client {
	if s.c.PasswordFile == "" && s.c.Cert == "" && !strings.HasPrefix(s.c.Server, "unix:") {
		return nil
	}
	s.o.Timeout = completeTime
	c, err := s.client()
	if err != nil {
		return nil
	}
	return c
}
