package doctor_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"portico/impl/doctor"
)

func TestStandby(t *testing.T) {
	for _, tt := range []struct {
		name    string
		standby doctor.Standby
		err     error
		state   doctor.State
		found   string
	}{
		{"even", doctor.Standby{}, nil, doctor.OK, "it is 0 bytes behind the primary"},
		{"new", doctor.Standby{Unknown: true, Behind: 24}, nil, doctor.OK, "it is 24 bytes behind the primary; whether"},
		{"far behind", doctor.Standby{Behind: 64 << 20}, nil, doctor.Warning, "it is 64 MiB behind"},
		{"the primary", doctor.Standby{Primary: true, Behind: 64 << 20}, nil, doctor.Warning, "it is no standby"},
		{"another", doctor.Standby{Primary: true, Other: true}, nil, doctor.Failed, "it is not a standby of the database that is written"},
		{"away", doctor.Standby{}, errors.New("standby: connection refused"), doctor.Failed, "standby: connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &doctor.Examination{Standby: func(context.Context) (doctor.Standby, error) { return tt.standby, tt.err }}
			for _, c := range e.Checks() {
				if c.Name != "standby" {
					continue
				}
				r := doctor.Run(t.Context(), []doctor.Check{c}, time.Minute)[0]
				if r.State != tt.state || !strings.HasPrefix(r.Found, tt.found) || (r.Do == "") != (tt.state == doctor.OK) {
					t.Errorf("%+v, want %s: %s", r, tt.state, tt.found)
				}
				return
			}
			t.Error("there is no such check")
		})
	}
}
