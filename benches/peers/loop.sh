#!/usr/bin/env bash
# The job with GNU parallel and curl, as in many runbooks.     loop.sh CSV BASE_URL WORK_DIR
#
# curl repeats temporary errors and respects Retry-After; the id of an existing customer is looked up; the next run
# resumes from the job log; 20 failed rows stop the run.
csv=$1 base=$2 work=$3
touch "$work/joblog"
call() { curl -sS --max-time 10 --retry 6 --retry-all-errors -w '\n%{http_code}' -u k: -H 'x-merchantid: acme' -H "x-routing-id: $ref" "$@"; }
row() { # reference mobile email first last country
    ref=$1
    answer=$(call --data-urlencode "object_reference_id=$1" --data-urlencode "mobile_number=$2" --data-urlencode "email_address=$3" \
        --data-urlencode "first_name=$4" --data-urlencode "last_name=$5" --data-urlencode "mobile_country_code=$6" "$base/customers")
    if [[ $answer == *'"unique"'* ]]; then
        answer=$(call "$base/customers/$1")
    fi
    if [[ ${answer##*$'\n'} == 200 ]]; then
        id=$(sed -n 's/.*"id" *: *"\(c[a-z]*_[^"]*\)".*/\1/p' <<<"$answer" | tail -1)
        echo "{\"ref\":\"$1\",\"ok\":true,\"id\":\"$id\"}" >>"$work/verdicts.jsonl"
    else
        echo "{\"ref\":\"$1\",\"ok\":false}" >>"$work/verdicts.jsonl"
        return 1
    fi
}
export -f call row
export base work
tail -n +2 "$csv" | parallel --will-cite --jobs 16 --delay 0.01 --colsep , --halt soon,fail=20 \
    --joblog "$work/joblog" --resume-failed row {1} {2} {3} {4} {5} {6}
