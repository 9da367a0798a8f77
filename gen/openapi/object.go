package openapi

import (
	"bytes"
	"encoding/json"
	"slices"

	"portico/gen/source"
)

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	key   string
	value any
}

func (o object) get(key string) any {
	for _, m := range o {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// set replaces the member called key, or adds it at the end.
func (o *object) set(key string, value any) {
	for i := range *o {
		if (*o)[i].key == key {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, member{key, value})
}

// move takes members out of o and puts them into to.
func (o *object) move(to *object, keys ...string) {
	for _, key := range keys {
		if v := o.get(key); v != nil {
			to.set(key, v)
			*o = slices.DeleteFunc(slices.Clone(*o), func(m member) bool { return m.key == key })
		}
	}
}

// copy takes over members of a lexicon as they are.
func (o *object) copy(v *source.Value, keys ...string) {
	for _, key := range keys {
		o.rename(v, key, key)
	}
}

// rename is copy of a member that has another name here.
func (o *object) rename(v *source.Value, from, to string) {
	if m := v.Get(from); m != nil {
		o.set(to, json.RawMessage(m.Raw))
	}
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := e.Encode(m.key); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := e.Encode(m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}
