// Upper bound of a rate after so many findings in so many looks: the one-sided interval of Clopper and Pearson (Biometrika 26, 1934). Without
// findings it is 1 - 0.05^(1/n), about 3/n: the rule of three.
#include <cmath>

#include "pg/postgres.hpp"

namespace tandem {
namespace {

// Continued fraction of the incomplete beta function (Lentz), good for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
    constexpr double tiny = 1e-300;
    double c = 1;
    double d = 1 - (a + b) * x / (a + 1);
    d = 1 / (std::fabs(d) < tiny ? tiny : d);
    double result = d;
    for (int m = 1; m <= 10000; m++) {
        for (int part = 0; part < 2; part++) {
            const double step = part == 0 ? m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
                                          : -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
            d = 1 + step * d;
            d = 1 / (std::fabs(d) < tiny ? tiny : d);
            c = 1 + step / c;
            c = std::fabs(c) < tiny ? tiny : c;
            result *= d * c;
        }
        if (std::fabs(d * c - 1) < 1e-14)
            break;
    }
    return result;
}

// Regularised incomplete beta function.
double beta(double a, double b, double x) {
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    const double front = std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double upper_bound(double found, double looks, double confidence) {
    if (found >= looks)
        return 1;
    double low = 0;
    double high = 1;
    for (int i = 0; i < 200 && high - low > high * 1e-10; i++) {
        const double middle = (low + high) / 2;
        if (beta(found + 1, looks - found, middle) < confidence)
            low = middle;
        else
            high = middle;
    }
    return high;
}

} // namespace
} // namespace tandem

TANDEM_FUNCTION(tandem_upper_bound);
extern "C" Datum tandem_upper_bound(PG_FUNCTION_ARGS) {
    const auto found = static_cast<double>(PG_GETARG_INT64(0));
    const auto looks = static_cast<double>(PG_GETARG_INT64(1));
    const double confidence = PG_GETARG_FLOAT8(2);
    if (found < 0 || looks < 0 || !(confidence > 0 && confidence < 1))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a bound needs counts from 0 and a confidence between 0 and 1")));
    PG_RETURN_FLOAT8(tandem::upper_bound(found, looks, confidence));
}
