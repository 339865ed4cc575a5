package yangtree

import "strings"

// featureExpression evaluates the argument of an if-feature (section 7.20.2):
// names, not, and, or, parentheses. A name alone is YANG 1's.
func (s *Set) featureExpression(st *Statement) (bool, error) {
	p := features{set: s, st: st}
	p.words = strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(st.Argument))
	v, err := p.or(0)
	if err == nil && len(p.words) > 0 {
		err = st.Errorf("unexpected %s", p.words[0])
	}
	return v, err
}

type features struct {
	set   *Set
	st    *Statement
	words []string
}

func (p *features) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *features) take(word string) bool {
	if len(p.words) == 0 || p.words[0] != word {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *features) or(depth int) (bool, error) {
	if depth > mostDepth {
		return false, p.st.Errorf("nested too deeply")
	}
	v, err := p.and(depth)
	for err == nil && p.take("or") {
		var w bool
		w, err = p.and(depth)
		v = v || w
	}
	return v, err
}

func (p *features) and(depth int) (bool, error) {
	v, err := p.factor(depth)
	for err == nil && p.take("and") {
		var w bool
		w, err = p.factor(depth)
		v = v && w
	}
	return v, err
}

func (p *features) factor(depth int) (bool, error) {
	negated := false
	for p.take("not") {
		negated = !negated
	}
	if p.take("(") {
		v, err := p.or(depth + 1)
		if err == nil && !p.take(")") {
			err = p.st.Errorf("parenthesis without an end")
		}
		return v != negated, err
	}
	name := p.next()
	m, local, err := p.st.Resolve(name)
	if err != nil {
		return false, err
	}
	for _, in := range append([]*Module{m}, m.included...) {
		for _, f := range in.Statement.All("feature") {
			if f.Argument != local {
				continue
			}
			v := p.set.features[m.Name][local]
			if v && depth < mostDepth { // a feature may depend on others
				for _, c := range f.All("if-feature") {
					more := features{set: p.set, st: c, words: strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(c.Argument))}
					w, err := more.or(depth + 1)
					if err != nil {
						return false, err
					}
					v = v && w
				}
			}
			return v != negated, nil
		}
	}
	return false, p.st.Errorf("there is no feature %q", name)
}
